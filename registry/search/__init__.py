"""Search for adapters: filters, embeddings, nearest neighbours."""

MAX_LIMIT = 200  # hits per search
# Limits of the examples of one search, so that the query fits into a URL.
MAX_EXAMPLES = 32
MAX_EXAMPLE_CHARACTERS = 1000
