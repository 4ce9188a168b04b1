"""Query algebra, ranking with filters, and the result with its reasons."""
