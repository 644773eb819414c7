"""Tests of the merge package, module by module."""
