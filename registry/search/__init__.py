"""Finding adapters: filters, embeddings, nearest neighbours."""
