"""Read picture files: discovery, safe decoding, colour, orientation, metadata, hashing, preprocessing, and more."""
