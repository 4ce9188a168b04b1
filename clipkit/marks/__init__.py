"""Provenance of generated pictures: the marks that clipkit writes, and reading those of any tool."""
