"""Nearest-neighbour search: one protocol, implemented with FAISS and kept in step with the catalog."""
