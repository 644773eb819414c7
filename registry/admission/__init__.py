"""Admission: checks whether an adapter can be served; uses no SQL."""
