"""Nearest neighbours: one protocol, FAISS behind it, always in step with the catalog."""
