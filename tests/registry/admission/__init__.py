"""Tests of `registry.admission`."""
