"""What leaves the registry as files: PEFT folders as tar archives, and their model cards."""
