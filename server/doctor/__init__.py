"""What is wrong with an installation, and what to do: the checks of `weft doctor`.

Nothing is created or changed, and a running server is not disturbed.
"""
