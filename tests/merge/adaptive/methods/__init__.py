"""The methods that learn: folds, LoraHub, the scale."""
