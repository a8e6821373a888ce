"""Detectors of zeros and repetitions in a matrix of weights, one structure a file."""
