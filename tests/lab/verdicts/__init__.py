"""What a verdict is worth: how often it is wrong, and what it can see: `make lab-verdict`."""
