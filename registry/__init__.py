"""weft's registry: which adapters exist, under which names, versions and aliases, and their files.

Knows SQL and the PEFT folder; knows nothing of tensors' arithmetic, HTTP or engines.
"""
