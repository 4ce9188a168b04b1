"""Getting model files: pulling, downloading, locating, importing."""
