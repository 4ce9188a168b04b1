"""From files to embeddings in the catalog: scan, diff, decode, encode, commit, as a pipeline of generators."""
