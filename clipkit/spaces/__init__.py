"""What turns pixels and words into vectors: the registry of models, and their encoders."""
