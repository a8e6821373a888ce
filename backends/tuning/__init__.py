"""Measured times of kernels on this machine, and the cache that keeps them."""
