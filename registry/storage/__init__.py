"""The database, its tables and the blob store. This package contains no rules of a subject."""
