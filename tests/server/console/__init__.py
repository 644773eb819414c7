"""Tests of the console: by NiceGUI's user, without a browser."""
