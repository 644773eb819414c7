"""Imports of adapters from a folder, an upload or the Hub."""
