"""Models: what turns pixels and words into vectors."""
