"""Tests of `server.cluster`."""
