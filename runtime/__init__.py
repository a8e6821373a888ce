"""Loads and runs artifacts with the standard library and numpy alone."""
