"""Finding adapters: filters, embeddings, nearest neighbours."""

MAX_LIMIT = 200  # hits of one search
# Examples of one search; all of it must fit into a URL.
MAX_EXAMPLES = 32
MAX_EXAMPLE_CHARACTERS = 1000
