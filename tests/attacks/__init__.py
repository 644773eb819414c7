"""Attempts to break out or to break down; see README.md."""
