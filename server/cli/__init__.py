"""The `weft` command. One module per subject; `main.py` names every command."""

from server.cli.main import app

__all__ = ["app"]
