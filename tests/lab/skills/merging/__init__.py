"""Which merge keeps the skills of the real base: what `make lab-skills` measures."""
