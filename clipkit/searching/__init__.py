"""Searching: query algebra, filters, ranking, and results with the reasons for them."""
