"""What is learned over a pool: recycle, LoraHub, a scale, and how the result is folded."""
