"""Tests of adaptive merging: learning, controls, folds, whole jobs."""
