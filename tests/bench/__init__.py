"""Benchmarks of the merge engine; run by hand, never by the tests."""
