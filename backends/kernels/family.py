"""What a kernel family offers the compiler, and one of its launches in a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.llvm.normalization import Norm
from tilewright.backends.target import Target
from tilewright.compiler.formats.format import Encoded

UNITS = ("f32", "bf16_tile", "bf16_dot", "int8_tile", "int8_dot", "f16")
"""What multiplies: rates of the machine profile."""


@dataclass(frozen=True)
class Cost:
    """What one launch does: operations of the mathematical product (2 M N K), and bytes of
    operands read and written once.

    The rest is for the cost model (backends.cost): what the machine really does, on one thread.
    0 means nothing but where said otherwise; backends.kernels.work has what families share.

    ``unit``: one of UNITS, what the multiplications run on.
    ``issued``: operations issued on it, those of padded tiles and of every partial product
    included (0: as ``flops``).
    ``weights``: bytes of constants, once (from beyond L2 where the model's weights exceed it).
    ``asked``: whether weights are asked for so far ahead that they come beside the rest.
    ``passes``: how often the weights are read from beyond L1 and L2 if they exceed them: once for
    each block of rows that is finished before the next one begins.
    ``streamed``: bytes that inner loops load from beyond L1: packed weights once for each block
    of rows, packed rows once for each block of columns that does not find them in L1 (0: as
    ``bytes``).
    ``converted``: elements brought into another form first, once for each time that happens:
    gathered, transposed, rounded or split to bf16 (times the number of parts), quantized.
    ``epilogue``: elementwise operations on results and scores (work.epilogue), times elements.
    ``written``: bytes of results, of ``bytes``: a store that misses L1 fetches the line first.
    ``blocks``: calls of the innermost kernel, each of which fills and drains a pipeline.
    ``nanoseconds``: of the arithmetic on the GPU that the family's own table was measured on; takes
    the place of ``issued`` (0: no such table).
    """

    flops: int
    bytes: int
    unit: str = "f32"
    issued: int = 0
    weights: int = 0
    asked: bool = True
    passes: int = 1
    streamed: int = 0
    converted: int = 0
    epilogue: int = 0
    written: int = 0
    blocks: int = 0
    nanoseconds: int = 0


@dataclass(frozen=True)
class Layout:
    """Of a packed constant: equal names mean equal bytes for equal weights; ``bytes`` of them."""

    name: str
    bytes: int


@dataclass(frozen=True)
class Case:
    """One launch for the generic test: operands in spec order, dims, result buffers.

    ``expected`` is computed in float64 from logical (not packed) data. ``operands`` may be
    strided views over larger buffers: ``args`` are what the kernel gets. ``weights``: the logical
    constant operand and the position of its packed form in ``args``.
    """

    label: str
    spec: Any
    args: tuple[np.ndarray, ...]
    results: tuple[np.ndarray, ...]
    dims: tuple[int, ...]
    expected: tuple[np.ndarray, ...]
    rtol: float
    atol: float
    weights: tuple[np.ndarray | Encoded, int] | None = None


@dataclass(frozen=True)
class KernelFamily:
    """One packed layout and everything that depends on it.

    ``emit(module, spec, target, name)`` adds a function of the kernel ABI to ``module``; absent:
    the family is for GPUs only. ``cuda(spec, target, name)``: the kernel for a GPU; absent: the
    family is for CPUs only.
    ``units(spec)`` and ``scratch_bytes(spec)`` are integer expressions over p0, p1, ... with
    + - * // and ``ceildiv(a, b)``, ``min``, ``max``; the generated main evaluates them.
    ``reference(spec, args, dims)`` computes the results in numpy from the same packed operands.
    ``cases()`` are the launches of the generic test. ``pack(weights, spec)`` and its exact inverse
    ``unpack(packed, spec)`` are absent for families without constant operands. ``supports(target)``
    says whether ``emit`` can serve a target; absent: every target.
    ``cost(spec, dims, target)``: what one launch does on a target, for its row of blocks and tiles.
    ``variants(spec, target)``: specs, ``spec`` first, that compute the same with other tiles or
    blocks, for the cost model to choose from; absent: there is only one way. ``accuracy(spec)``:
    the class of the result's relative L2 error on random operands: 0.0 for f32-faithful, else
    1e-5, 1e-3 or 1e-2; absent: f32-faithful.
    ``candidates(task, target)``: specs that compute a task (backends.kernels.tasks), () for one
    that is not this family's; absent: lowering never asks it. ``fitted(task, target, weights)``:
    further specs, for the weights that the model has, [K, N] of a product, where what is packed
    depends on them (zeros that are not stored); absent: none. ``sample(spec)``: packed weights for
    measurements, where bytes say where others are, so that any will not do; absent: any will.
    ``layout(spec)``: of the packed
    constant; families whose packed bytes are the same give the same name and share them.
    ``format(spec)``: name of the weight format (compiler.formats) that the kernel reads, "" for
    weights as they are; absent: as they are. ``pack`` then takes an ``Encoded``, ``unpack`` gives
    one, and `accuracy` says nothing: the format decides the error.
    ``codes``: `pack` takes the `Encoded` that the model has for a constant (CodedMatmulTask); its
    numbers are the model's own, so it needs no format to be allowed.
    ``shaped(m, n, k)``: launches for the test of odd shapes, of m rows, n columns and sums of k;
    absent: the family has none of these.
    ``stored(spec, operands, result)``: the same with its activations and its result in these
    formats (llvm.formats), None where it cannot; it reads only what it would itself round so.
    Absent: f32 only.
    ``normed(spec, norm, width)``: the same with its one activation normalized first (llvm.
    normalization), if its rows have ``width`` elements, None where it cannot; the vectors follow
    the other operands. Absent: never.
    ``strips(spec)``: most rows of a unit, if packed panels of 32 columns follow each other, so that
    columns from one on are a product of their own, ``replace(spec, n=...)``, whose packed bytes are
    those of its panels; 0 where they do not. Absent: they do not.
    ``suits(weights)``: whether results are right for this constant operand, [K, N] of a product, as
    the model has it otherwise; absent: for all.
    """

    name: str
    op: str
    emit: Callable[[ir.Module, Any, Target, str], ir.Function] | None
    reference: Callable[..., tuple[np.ndarray, ...]]
    units: Callable[[Any], str]
    scratch_bytes: Callable[[Any], str]
    cost: Callable[[Any, tuple[int, ...], Target], Cost]
    cases: Callable[[], tuple[Case, ...]]
    pack: Callable[..., np.ndarray] | None = None
    unpack: Callable[..., np.ndarray | Encoded] | None = None
    supports: Callable[[Target], bool] | None = None
    variants: Callable[[Any, Target], tuple[Any, ...]] | None = None
    accuracy: Callable[[Any], float] | None = None
    candidates: Callable[[Any, Target], tuple[Any, ...]] | None = None
    fitted: Callable[[Any, Target, np.ndarray], tuple[Any, ...]] | None = None
    sample: Callable[[Any], np.ndarray] | None = None
    layout: Callable[[Any], Layout] | None = None
    format: Callable[[Any], str] | None = None
    codes: bool = False
    shaped: Callable[[int, int, int], tuple[Case, ...]] | None = None
    stored: Callable[[Any, tuple[str, ...], str], Any] | None = None
    normed: Callable[[Any, Norm, int], Any] | None = None
    strips: Callable[[Any], int] | None = None
    suits: Callable[[np.ndarray], bool] | None = None
    cuda: Callable[[Any, Target, str], CudaKernel] | None = None

    def serves(self, target: Target) -> bool:
        """Whether the family has kernels for ``target``."""
        if (self.cuda if target.gpu else self.emit) is None:
            return False
        return self.supports is None or self.supports(target)


def evaluate(formula: str, dims: tuple[int, ...]) -> int:
    """The value of a ``units`` or ``scratch_bytes`` formula at ``dims``."""
    names: dict[str, Any] = {f"p{i}": value for i, value in enumerate(dims)}
    names |= {"ceildiv": lambda a, b: -(-a // b), "min": min, "max": max, "__builtins__": {}}
    return int(eval(formula, names))
