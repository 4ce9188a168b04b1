"""From embeddings to pictures: priors, decoders, routes, bridges, and the fallback of a search without a match."""
