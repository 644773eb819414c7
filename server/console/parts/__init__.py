"""What pages are made of: sections, tables, charts, questions, text."""
