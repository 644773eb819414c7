"""The database, its tables and files by content. Knows no subject."""
