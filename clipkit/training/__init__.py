"""Recipes for the bundled model: a module for each network, and what they share (data, the training loop, scores)."""
