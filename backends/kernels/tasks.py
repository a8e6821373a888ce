"""What lowering asks kernel families for: a computation, without saying how it is done.

A task fixes the arguments and the dims of its launches, so that every family's answer can take the
place of any other. Families answer in their `candidates` hook; `backends.kernels.candidates` asks
all of them. A family with operands of another kind brings a task of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue


@dataclass(frozen=True)
class MatmulTask:
    """C[M, N] f32 = epilogue(A[M, K] f32 x B[K, N]) with constant B.

    Args: A, packed B, the epilogue's extras, then C.
    Dims: p0 = M, p1 = row stride of A, p2 = row stride of C (elements), then one row stride for
    each ``col`` and ``full`` extra in order. Columns of A and C are contiguous.
    Weights for ``pack``: B as f32 [K, N].
    """

    k: int
    n: int
    epilogue: Epilogue = IDENTITY


@dataclass(frozen=True)
class BatchedMatmulTask:
    """C[b.., M, N] = epilogue(A[b.., M, K] B[b.., K, N]), f32, no operand known.

    ``transposed``: B is stored [b.., N, K]. Args and dims as `f32_bmm.BmmSpec` says.
    """

    batch_rank: int = 1
    transposed: bool = False
    epilogue: Epilogue = IDENTITY


@dataclass(frozen=True)
class ConvTask:
    """Channels-last convolution with constant filters, as `f32_conv.ConvSpec` describes it.

    Weights for ``pack``: f32 [O, C / groups, taps..].
    """

    channels: int
    out_channels: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    epilogue: Epilogue = IDENTITY


@dataclass(frozen=True)
class AttentionTask:
    """softmax(scale Q K^T + mask) V; fields, args and dims as `f32_attention.AttentionSpec`."""

    head_dim: int
    value_dim: int
    scale: float
    mask: str | None = None
    causal: bool = False
    masked_zero: bool = False
