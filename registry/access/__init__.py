"""Keys, visibility, policies and the audit log."""
