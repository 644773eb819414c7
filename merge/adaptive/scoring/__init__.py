"""From examples to figures: tokens, losses, generated answers, intervals."""
