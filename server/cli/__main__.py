"""`python -m server.cli`: the `weft` command without its script."""

from server.cli.main import app

if __name__ == "__main__":
    app()
