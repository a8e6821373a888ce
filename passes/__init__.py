"""Transformations of IR graphs, `Graph -> Graph`, one pass a file."""
