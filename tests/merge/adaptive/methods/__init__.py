"""Tests of the learning methods: folds, LoraHub, the scale search."""
