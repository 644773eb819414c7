"""The public API as the console calls it: one client, and one file per resource."""
