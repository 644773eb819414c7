"""From the `model` field of a request to a recipe."""
