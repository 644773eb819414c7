"""Attacks on the registry and the engine's plug-in; see README.md."""
