"""Launches on which the matmul with group-wise integer weights is tested on GPUs."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.grouped_mma.packing import pack
from tilewright.backends.kernels.grouped_mma.spec import GroupedMmaSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, evaluate, view_extras
from tilewright.compiler.formats.activations import Int8, Rounded
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.formats.integers import Integers

FORMATS = (
    Integers(4, 64),
    Integers(4, 32),
    Integers(4, 128, True),
    Integers(8, 64),
    Integers(8, symmetric=True),
    Integers(4, 64, reads=Int8(64)),
)

TYPES = {"f32": np.float32, "bf16": ml_dtypes.bfloat16}


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    rows = (1, 2, 3, 8, 9, 17, 33, 70)
    out = [_case(m, 33 + 131 * (1 + i % 3), 70, f) for i, f in enumerate(FORMATS) for m in rows]
    for m in (1, 5, 40):
        out += [_case(m, 150, 45, FORMATS[0], e) for e in (BIAS_RELU_RESIDUAL, GELU)]
        out += [_case(m, 1000, 300, f) for f in FORMATS[:3]]
    out += [_case(m, 150, 45, f, special=True) for m in (2, 20, 40) for f in FORMATS]
    # A and C in bf16; rows that can be copied by 16 bytes, and rows that cannot.
    for m, k, gap in (
        (1, 150, 0),
        (5, 152, 0),
        (5, 150, 0),
        (20, 264, 8),
        (33, 200, 3),
        (70, 96, 0),
    ):
        for form in (FORMATS[0], FORMATS[2], FORMATS[3]):
            out.append(_case(m, k, 70, form, BIAS_RELU_RESIDUAL, a="bf16", c="bf16", gap=gap))
    out.append(_case(9, 64, 40, FORMATS[0], a="bf16", special=True))
    out += [_case(m, 65, 1, FORMATS[0]) for m in (0, 1, 33)]
    # Panels for every multiprocessor: rows that the accelerator copies as they are, and others.
    for m, k, gap in ((1, 256, 0), (5, 384, 8), (16, 512, 0), (12, 200, 0), (20, 128, 4)):
        out.append(_case(m, k, 3200, FORMATS[2], BIAS_RELU_RESIDUAL, a="bf16", c="bf16", gap=gap))
    out.append(_case(9, 128, 3170, FORMATS[3], a="bf16", special=True))
    # Rows for groups of warps, and panels for two blocks that share K.
    for m, k in ((40, 130), (70, 256)):
        out.append(_case(m, k, 12600, FORMATS[2], BIAS_RELU_RESIDUAL, a="bf16", c="bf16"))
    out.append(_case(34, 128, 12600, FORMATS[0], special=True))
    # More panels than blocks.
    out += [_case(m, 140, 8500, FORMATS[0]) for m in (1, 8, 13)]
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """With NaN, infinity and denormals, and an epilogue of every kind of extra."""
    return (
        _case(m, k + 64, n, FORMATS[0], BIAS_RELU_RESIDUAL, special=True),
        _case(m, k + 64, n, FORMATS[3]),
        _case(m, k + 64, n, FORMATS[0], GELU, special=True, a="bf16", c="bf16"),
    )


def coded(k: int, n: int, form: Integers, rng: np.random.Generator) -> Encoded:
    """Random codes, scales and zero points of a format."""
    shape = (form.groups(k), n)
    scales = (rng.standard_normal(shape) * 2.0**-form.bits).astype("f2" if form.group else "f4")
    zeros = np.full(shape, 2 ** (form.bits - 1), np.uint8)
    if not form.symmetric:
        zeros = rng.integers(0, 2**form.bits, shape).astype(np.uint8)
    codes = rng.integers(0, 2**form.bits, (k, n)).astype(np.uint8)
    return Encoded((k, n), {"codes": codes, "scales": scales.astype("f4"), "zeros": zeros})


def _case(
    m: int,
    k: int,
    n: int,
    form: Integers,
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
    a: str = "f32",
    c: str = "f32",
    gap: int = 0,
) -> Case:
    rng = np.random.default_rng([m, k, n, form.bits])
    spec = GroupedMmaSpec(k, n, form, epilogue, a, c)
    encoded = coded(k, n, form, rng)
    whole = rng.standard_normal((m, k + gap)).astype(np.float32)
    if special:
        # Rows stay apart, so that a NaN that leaks into a neighbour is seen.
        whole[0, 3], whole[1:2, 5] = np.nan, np.inf
        whole[2:3, 7], whole[3:4, 9] = 1e-40, -np.inf
    whole = whole.astype(TYPES[a])
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = Rounded().read(whole[:, :k]) @ form.decode(encoded).astype(np.float64)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    marks = f"-{form.name}-{a}-{c}+{gap}{'-special' * special}"
    size = max(m * (k + gap) - gap, 0)
    return Case(
        label=f"{m}x{k}x{n}-{len(epilogue.steps)}{marks}",
        spec=spec,
        args=(whole.reshape(-1)[:size], pack(encoded, spec), *extras),
        results=(np.zeros((m, n), TYPES[c]),),
        dims=(m, k + gap, n, *strides),
        expected=(expected,),
        weights=(encoded, 1),
        rtol=2e-5 + (2**-8 if c == "bf16" else 0),
        atol=2e-5 * 4 * max(1.0, k**0.5 / 12),
    )
