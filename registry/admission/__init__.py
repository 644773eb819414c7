"""Is this an adapter that we can serve? Knows no SQL."""
