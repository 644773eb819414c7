"""Merge methods against independent implementations of the same formulas."""
