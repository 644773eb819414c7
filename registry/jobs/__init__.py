"""Database rows of jobs and of the files that jobs read."""
