"""Launches on which the matmul with codes is tested on GPUs: those of coded_matmul, and longer
sums."""

from __future__ import annotations

from dataclasses import replace

from tilewright.backends.kernels.coded_matmul import cases as coded
from tilewright.backends.kernels.coded_mma.packing import pack
from tilewright.backends.kernels.coded_mma.spec import CodedMmaSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.compiler.formats.blocks import Blocks
from tilewright.compiler.formats.format import Encoded

FORMATS = (
    Blocks(4, 32),
    Blocks(4, 64, "u8"),
    Blocks(4, 0, "u8", half=False),
    Blocks(4, 128, half=False),
    Blocks(8, 64, "u8"),
    Blocks(8, 0),
)


def cases() -> tuple[Case, ...]:
    """The launches of the generic family test."""
    plain = [_case(m, 70, 45, f) for f in FORMATS for m in (1, 2, 3, 5, 9, 30)]
    more = [_case(m, k, 40, FORMATS[1]) for m, k in ((1, 0), (5, 0), (0, 32), (1, 1), (7, 900))]
    fused = [_case(m, 20, 40, FORMATS[0], coded.BIAS_RELU_RESIDUAL) for m in (2, 13)]
    special = [_case(m, 20, 40, f, special=True) for m in (2, 13) for f in FORMATS[:2]]
    return (*plain, *more, *fused, *special)


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """Launches for the test of odd shapes."""
    return (_case(m, k, n, FORMATS[0]), _case(m, k, n, FORMATS[2], coded.BIAS_RELU_RESIDUAL))


def _case(
    m: int, k: int, n: int, form: Blocks, epilogue: Epilogue = IDENTITY, special: bool = False
) -> Case:
    case = coded.shaped(m, k, n, form, epilogue, special)
    assert case.weights is not None
    encoded, at = case.weights
    assert isinstance(encoded, Encoded)
    spec = CodedMmaSpec(k, n, form, epilogue)
    args = (*case.args[:at], pack(encoded, spec), *case.args[at + 1 :])
    return replace(case, spec=spec, args=args)
