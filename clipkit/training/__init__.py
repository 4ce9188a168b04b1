"""The recipes that made the bundled model: the emoji world, and a file for each network trained on it."""
