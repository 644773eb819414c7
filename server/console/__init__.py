"""The web console: pages over the public API, in a process of its own. See `app.py`."""
