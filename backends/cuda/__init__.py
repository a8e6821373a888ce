"""NVIDIA GPUs: kernels as CUDA C++ or PTX, compiled to cubins, and what launches them."""
