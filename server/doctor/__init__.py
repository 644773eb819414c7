"""What is wrong with an installation, and what to do: the checks of `weft doctor`.

Nothing is created or changed but an object in the object store, which is removed again, and a
running server is not disturbed.
"""
