"""The admin API: `/registry/…`."""
