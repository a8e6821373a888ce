"""Which products a matmul with constant weights uses, by the error that the compile allows.

An error bound is a relative L2 error of an output. bf16 products keep about 1e-2 of it on networks
of a dozen layers (their inputs are rounded to 8 bits, their sums are f32).
"""

from __future__ import annotations

from tilewright.backends.kernels import bf16_matmul, f32_matmul
from tilewright.backends.kernels.bf16_matmul import Bf16MatmulSpec
from tilewright.backends.kernels.f32_matmul import MatmulSpec
from tilewright.backends.kernels.family import KernelFamily
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue
from tilewright.backends.target import Target

BF16_ERROR = 1e-2
"""The least bound under which bf16 products are used."""

AnyMatmulSpec = MatmulSpec | Bf16MatmulSpec


def uses_bf16(max_error: float | None, target: Target) -> bool:
    """Whether the bound allows bf16 products and the target has them."""
    if max_error is None or max_error < BF16_ERROR:
        return False
    supports = bf16_matmul.FAMILY.supports
    return supports is not None and supports(target)


def matmul_spec(bf16: bool, k: int, n: int, epilogue: Epilogue = IDENTITY) -> AnyMatmulSpec:
    """The kernel of a product [M, k] x [k, n] with constant right-hand side."""
    if bf16:
        return Bf16MatmulSpec(k=k, n=n, epilogue=epilogue)
    return MatmulSpec(k=k, n=n, epilogue=epilogue)


def family_of(spec: AnyMatmulSpec) -> KernelFamily:
    """The family of a matmul spec."""
    return f32_matmul.FAMILY if isinstance(spec, MatmulSpec) else bf16_matmul.FAMILY


def packed_bytes(spec: AnyMatmulSpec) -> int:
    """Bytes of the packed right-hand side."""
    if isinstance(spec, MatmulSpec):
        return spec.panels * 32 * spec.k * 4
    return spec.panels * 32 * spec.steps * 32 * spec.planes * 2
