"""The `weft` command. One module per group of commands; `main.py` puts them together."""

from server.cli.main import app

__all__ = ["app"]
