"""From an embedding to a picture: prior, decoder, and the codec between pixels and latents."""
