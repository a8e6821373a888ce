"""What a GPU kernel is to the rest of the compiler: source text and how its functions are launched.

All functions take the same parameters in the same order, so that the runtime needs to know nothing
of any kernel:

    const __grid_constant__ TensorMap m0, m1, ...   the entry's tensor maps, in order
    void *a0, *a1, ...                              the launch's operands, inputs then results
    long long p0, p1, ...                           its dims
    long long units                                 its work units
    char *workspace                                 device memory of `workspace` bytes
    int *status                                     zero; a kernel that fails writes its error code

Formulas are text over p0, p1, ... and `units` with + - * // % and ceildiv, min, max; `sms` is the
number of multiprocessors of the device, a0, a1, ... are the addresses of the operands modulo 256
(for their alignment: a kernel may have entries of which only one has a grid that is not empty).
Maps of an entry whose grid is empty are not made.
"""

from __future__ import annotations

from dataclasses import dataclass

WORKSPACE = -1
"""In place of a map's operand."""


@dataclass(frozen=True)
class TensorMap:
    """A descriptor of the tensor memory accelerator (cuTensorMapEncodeTiled) for one operand.

    ``dims``: sizes in elements, innermost first, as formulas; ``strides``: bytes from one index to
    the next, of all dims but the innermost (multiples of 16); ``box``: what one copy brings.
    ``swizzle``: bytes of the pattern, 0, 32, 64 or 128. ``offset``: bytes from the operand's
    beginning. Elements out of bounds read as zero. ``operand`` WORKSPACE: the workspace.
    """

    operand: int
    dtype: str
    dims: tuple[str, ...]
    strides: tuple[str, ...]
    box: tuple[int, ...]
    swizzle: int = 128
    offset: str = "0"


@dataclass(frozen=True)
class Entry:
    """One `__global__` function: its name is that of the kernel followed by ``suffix``.

    ``grid``: blocks in x, y, z (nothing is launched where one is 0); ``block``: threads.
    ``shared``: bytes of dynamic shared memory. ``cluster``: blocks that form one. ``overlaps``:
    whether it waits for the launch before it by itself (griddepcontrol.wait), so that it may be
    started early.
    """

    grid: tuple[str, str, str]
    block: tuple[int, int, int]
    shared: str = "0"
    suffix: str = ""
    cluster: tuple[int, int, int] = (1, 1, 1)
    maps: tuple[TensorMap, ...] = ()
    overlaps: bool = False


@dataclass(frozen=True)
class CudaKernel:
    """The code of one kernel. ``language``: "cuda" (C++, nothing included) or "ptx".

    ``entries`` run one after the other on the same parameters. ``workspace``: bytes of device
    memory that they share, as a formula; it holds anything when they start.
    """

    source: str
    entries: tuple[Entry, ...]
    workspace: str = "0"
    language: str = "cuda"
