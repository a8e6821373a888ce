"""Kernel families: one folder each, found by walking (see registry.py and README.md)."""
