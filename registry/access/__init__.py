"""Keys, visibility and the audit log."""
