"""Model files: locate them on disk, pull them from the model hub, import them from elsewhere."""
