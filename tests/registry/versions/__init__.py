"""Tests of `registry.versions`."""
