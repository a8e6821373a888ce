"""Region specs as CUDA C++: `kernel.region_kernel`."""

from tilewright.backends.cuda.region.kernel import region_kernel

__all__ = ["region_kernel"]
