"""Files to pixels: discovery, safe decoding, orientation, metadata, hashing, preprocessing, contact sheets, URLs."""
