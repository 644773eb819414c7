"""Churn: traffic over many compositions while names, files and the engine change beneath it.

`make churn` runs 20,000 requests and writes build/churn.json; a test runs 600.
"""
