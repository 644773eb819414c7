"""Rows of jobs and of the files that they read."""
