"""From examples to figures: tokens, generated answers, intervals."""
