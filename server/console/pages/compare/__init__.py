"""The page Compare: one prompt, or a file of prompts, to several models side by side."""
