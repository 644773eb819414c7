"""The registry of weft: adapters with their names, versions and aliases, and their files.

The package uses SQL and reads PEFT folders. It does no tensor arithmetic and contains no code for
HTTP or engines.
"""
