"""Tests of `registry.jobs`."""
