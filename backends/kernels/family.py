"""What a kernel family offers the compiler, and one of its launches in a test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from tilewright.backends.target import Target


@dataclass(frozen=True)
class Cost:
    """What one launch does: operations of the mathematical product (2 M N K), and bytes of
    operands read and written once.

    For the cost model also what the machine really does. ``unit``: the rate of the machine profile
    that bounds the multiplications (``f32``, ``bf16_tile``, ``bf16_dot``, ``int8_tile``,
    ``int8_dot``, ``f16``). ``issued``: operations issued on it, those of padded tiles and of every
    partial product included (0: as ``flops``). ``weights``: bytes of constants, read once.
    """

    flops: int
    bytes: int
    unit: str = "f32"
    issued: int = 0
    weights: int = 0


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
    weights: tuple[np.ndarray, int] | None = None


@dataclass(frozen=True)
class KernelFamily:
    """One packed layout and everything that depends on it.

    ``emit(module, spec, target, name)`` adds a function of the kernel ABI to ``module``.
    ``units(spec)`` and ``scratch_bytes(spec)`` are integer expressions over p0, p1, ... with
    + - * // and ``ceildiv(a, b)``, ``min``, ``max``; the generated main evaluates them.
    ``reference(spec, args, dims)`` computes the results in numpy from the same packed operands.
    ``cases()`` are the launches of the generic test. ``pack(weights, spec)`` and its exact inverse
    ``unpack(packed, spec)`` are absent for families without constant operands. ``supports(target)``
    says whether ``emit`` can serve a target; absent: every target.
    ``variants(spec, target)``: specs, ``spec`` first, that compute the same with other tiles or
    blocks, for the cost model to choose from; absent: there is only one way. ``accuracy(spec)``:
    the class of the result's relative L2 error on random operands: 0.0 for f32-faithful, else
    1e-5, 1e-3 or 1e-2; absent: f32-faithful.
    """

    name: str
    op: str
    emit: Callable[[ir.Module, Any, Target, str], ir.Function]
    reference: Callable[..., tuple[np.ndarray, ...]]
    units: Callable[[Any], str]
    scratch_bytes: Callable[[Any], str]
    cost: Callable[[Any, tuple[int, ...]], Cost]
    cases: Callable[[], tuple[Case, ...]]
    pack: Callable[..., np.ndarray] | None = None
    unpack: Callable[..., np.ndarray] | None = None
    supports: Callable[[Target], bool] | None = None
    variants: Callable[[Any, Target], tuple[Any, ...]] | None = None
    accuracy: Callable[[Any], float] | None = None


def evaluate(formula: str, dims: tuple[int, ...]) -> int:
    """The value of a ``units`` or ``scratch_bytes`` formula at ``dims``."""
    names: dict[str, Any] = {f"p{i}": value for i, value in enumerate(dims)}
    names |= {"ceildiv": lambda a, b: -(-a // b), "min": min, "max": max, "__builtins__": {}}
    return int(eval(formula, names))
