"""Coefficients learned from examples: adaptive merging and its controls."""
