"""Jobs: examples in, a served candidate and an honest table out."""
