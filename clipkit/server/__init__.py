"""A library over HTTP: an API for programs, and a page to look at. `clipkit serve` runs it."""
