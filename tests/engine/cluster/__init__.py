"""Two gateways, two engines, PostgreSQL and an object store, of which each is lost once.

`make cluster` runs it. Every part is a process of its own; the engines share no folder with
the gateways.
"""
