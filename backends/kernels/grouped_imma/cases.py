"""Launches on which the matmul of integer weights by rows in 8-bit codes is tested on GPUs."""

from __future__ import annotations

import ml_dtypes
import numpy as np

from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.grouped_imma.packing import pack
from tilewright.backends.kernels.grouped_imma.reference import multiply
from tilewright.backends.kernels.grouped_imma.spec import GroupedImmaSpec
from tilewright.backends.kernels.grouped_mma.cases import coded
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, evaluate, view_extras
from tilewright.compiler.formats.activations import Int8
from tilewright.compiler.formats.integers import Integers

FORMATS = (
    Integers(4, 64, reads=Int8(64)),
    Integers(4, 128, reads=Int8(128)),
    Integers(8, 64, reads=Int8(64)),
    Integers(8, symmetric=True, reads=Int8()),
    Integers(4, 32, True, reads=Int8(32)),
)

TYPES = {"f32": np.float32, "bf16": ml_dtypes.bfloat16}


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    rows = (1, 8, 9, 17, 33, 70)
    out = [_case(m, 33 + 131 * (1 + i % 3), 70, f) for i, f in enumerate(FORMATS) for m in rows]
    for m in (1, 5, 40):
        out += [_case(m, 150, 45, FORMATS[0], e) for e in (BIAS_RELU_RESIDUAL, GELU)]
        out += [_case(m, 1000, 300, f) for f in FORMATS[:4]]
    out += [_case(m, 150, 45, f, special=True) for m in (9, 40) for f in FORMATS]
    for m, k, gap in ((1, 150, 0), (20, 264, 8), (33, 200, 3)):
        for form in (FORMATS[0], FORMATS[3]):
            out.append(_case(m, k, 70, form, BIAS_RELU_RESIDUAL, a="bf16", c="bf16", gap=gap))
    out += [_case(m, 65, 1, FORMATS[0]) for m in (0, 1, 33)]
    out += [_case(m, 140, 8500, FORMATS[0]) for m in (1, 13)]
    return tuple(out)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """With NaN, infinity and denormals."""
    return (
        _case(m, k + 64, n, FORMATS[0], BIAS_RELU_RESIDUAL, special=True),
        _case(m, k + 64, n, FORMATS[3], GELU, special=True, a="bf16", c="bf16"),
    )


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
    spec = GroupedImmaSpec(k, n, form, epilogue, a, c)
    encoded = coded(k, n, form, rng)
    whole = rng.standard_normal((m, k + gap)).astype(np.float32)
    if special:
        whole[0, 3], whole[1:2, 5], whole[2:3, 7] = np.nan, np.inf, 1e-40
        whole[3:4], whole[4:5], whole[5:6, 2] = 0, 1e-39, 3e37
    whole = whole.astype(TYPES[a])
    extras, strides = [], []
    for extra in epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    with np.errstate(all="ignore"):
        product = multiply(whole[:, :k].astype(np.float32), encoded, spec)
        expected = evaluate(epilogue, product, view_extras(epilogue, extras, strides, m, n))
    size = max(m * (k + gap) - gap, 0)
    marks = f"-{form.name}-{a}-{c}+{gap}{'-special' * special}"
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
