"""Detectors of low rank, tables of transforms and products of smaller matrices, one a file."""
