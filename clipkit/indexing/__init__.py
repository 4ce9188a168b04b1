"""Indexing: from files to embeddings in the catalog and a published search index."""
