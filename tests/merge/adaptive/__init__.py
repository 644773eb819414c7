"""Adaptive merging: learning, controls, folds, whole jobs."""
