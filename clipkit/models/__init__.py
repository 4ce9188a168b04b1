"""Models: image and text towers that turn pixels and words into vectors."""
