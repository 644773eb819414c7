"""The page Compose: a composition is drafted, explained, built, saved and published."""
