"""What learning from a few examples over a pool is worth: what `make lab` measures."""
