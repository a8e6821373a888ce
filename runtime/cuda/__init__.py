"""Runs the CUDA variants of an artifact by the driver, with numpy and cuda-bindings alone."""
