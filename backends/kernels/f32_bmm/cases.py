"""Launches on which the batched f32 matmul is tested."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_bmm.spec import BmmSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step, evaluate

FUSED = Epilogue(
    extras=(Extra("full"), Extra("row"), Extra("scalar")),
    steps=(Step("mul", (0, 3)), Step("add", (4, 1)), Step("add", (5, 2)), Step("relu", (6,))),
    result=7,
)
SHAPES: tuple[tuple[tuple[int, ...], int, int, int], ...] = (
    ((), 5, 7, 9),
    ((), 70, 33, 200),
    ((3,), 1, 40, 128),
    ((2,), 3, 17, 140),
    ((2, 3), 8, 16, 32),
    ((2, 3), 15, 8, 33),
    ((4,), 65, 9, 64),
    ((2,), 6, 0, 5),
    ((0,), 6, 3, 5),
    ((1,), 1, 1, 1),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    both = (False, True)
    plain = [_case(b, m, k, n, IDENTITY, t) for b, m, k, n in SHAPES for t in both]
    fused = [_case(b, m, k, n, FUSED, t) for b, m, k, n in SHAPES[1:6] for t in both]
    shared = [_case((2, 3), 9, 12, 40, FUSED, t, broadcast=True) for t in (False, True)]
    return (*plain, *fused, *shared)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """B as it lies and transposed, with NaN, infinity and denormals, and a fused epilogue."""
    return tuple(_case((2,), m, k, n, FUSED, t, special=True) for t in (False, True))


def _case(
    batch: tuple[int, ...],
    m: int,
    k: int,
    n: int,
    epilogue: Epilogue,
    transposed: bool,
    broadcast: bool = False,
    special: bool = False,
) -> Case:
    """``broadcast``: B has one batch element, A none along the first axis."""
    rng = np.random.default_rng([*batch, m, k, n])
    spec = BmmSpec(len(batch), transposed, epilogue)
    ones = (1,) * len(batch)
    a_batch = (1, *batch[1:]) if broadcast else batch
    b_batch = ones if broadcast else batch
    a = rng.standard_normal((*a_batch, m, k)).astype(np.float32)
    b = rng.standard_normal((*b_batch, *((n, k) if transposed else (k, n)))).astype(np.float32)
    if special:
        a[..., 0, 3 % k] = np.nan
        a[..., 1:2, 5 % k] = np.inf
        (b if transposed else b.swapaxes(-1, -2))[..., 7 % n, :] *= np.float32(1e-41)
    c = np.zeros((*batch, m, n), np.float32)
    extras = []
    for extra in epilogue.extras:
        shape = {"full": (*batch, m, n), "row": (*ones, 1, n), "scalar": (*ones, 1, 1)}
        extras.append(rng.standard_normal(shape[extra.index]).astype(np.float32))
    dims: list[int] = [*batch, m, k, n]
    for array in (a, b, c):
        dims += _strides(array)[:-1]
    for extra, array in zip(epilogue.extras, extras, strict=True):
        dims += _strides(array)[: -1 if extra.index == "full" else -2]
    right = b.swapaxes(-1, -2) if transposed else b
    with np.errstate(all="ignore"):
        product = a.astype(np.float64) @ right.astype(np.float64)
        product = np.broadcast_to(product, c.shape)
        expected = evaluate(epilogue, product, extras)
    return Case(
        label=f"{batch}{m}x{k}x{n}{'t' if transposed else ''}{'b' if broadcast else ''}"
        f"-{len(epilogue.steps)}",
        spec=spec,
        args=(a, b, *extras),
        results=(c,),
        dims=tuple(dims),
        expected=(expected,),
        rtol=2e-5,
        atol=2e-5,
    )


def _strides(array: np.ndarray) -> list[int]:
    """Element strides, 0 along axes of size 1."""
    return [
        0 if size == 1 and axis < array.ndim - 2 else stride // array.itemsize
        for axis, (size, stride) in enumerate(zip(array.shape, array.strides, strict=True))
    ]
