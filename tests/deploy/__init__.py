"""Tests of the deployment files against the code that they start."""
