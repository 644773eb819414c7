"""Garbage collection, dump and restore."""
