"""The database's schema over time, as Alembic revisions.

A file is named `<date>_<time>_<before|after>_<what>.py`: "before" is run before the new code is
deployed (it only adds), "after" once no old code runs (it may remove).
"""
