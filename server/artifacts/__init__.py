"""Merged adapters: built once, kept on disk by content, leased while requests run."""
