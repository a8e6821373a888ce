"""Interleaved timing and its JSON record."""
