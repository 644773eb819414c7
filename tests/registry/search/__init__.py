"""Tests of `registry.search`."""
