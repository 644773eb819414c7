"""What learning over the other skills is worth for a new one: `make lab-skills-adaptive`."""
