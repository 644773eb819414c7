"""`weft node`: the process beside an engine that brings adapters from the object store."""
