"""Launches on which the matmul with two factors of integers is tested."""

from __future__ import annotations

from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL, GELU
from tilewright.backends.kernels.factored_matmul.cases import launch
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.grouped_factored_matmul.spec import GroupedFactoredMatmulSpec
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue

WIDENED = 8e-3
"""Of the greatest result: the right factor is rounded to bf16 for many rows, and the middle where
the target has bf16 products."""

ROWS = (0, 1, 3, 5, 8, 9, 33, 140)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test: of few shapes, since each takes long to compile."""
    out = [_case(m, 70, 90, 40, 4, BIAS_RELU_RESIDUAL) for m in ROWS]
    out += [_case(m, 33, 300, 33, 8) for m in ROWS]
    out += [_case(m, 100, 1, 40, 8, GELU) for m in (1, 20)]
    out.append(_case(20, 70, 90, 40, 4, BIAS_RELU_RESIDUAL, special=True))
    return tuple(out)


def _case(
    m: int,
    k: int,
    n: int,
    rank: int,
    bits: int,
    epilogue: Epilogue = IDENTITY,
    special: bool = False,
) -> Case:
    spec = GroupedFactoredMatmulSpec(k, n, rank, bits, epilogue)
    return launch(spec, m, special, WIDENED, whole=not special)
