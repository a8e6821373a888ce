"""What lowering asks kernel families for: a computation, without saying how it is done.

A task fixes the arguments and the dims of its launches, so that every family's answer can take the
place of any other. Families answer in their `candidates` hook; `backends.kernels.candidates` asks
all of them. A family with operands of another kind brings a task of its own.

`operands(dims)` of a task gives the bytes of every argument of a launch in order, up to the last
element that kernels may touch, None for the packed constant; the tuner allocates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from tilewright.backends.llvm.epilogue import BYTES, IDENTITY, Epilogue

Bytes = tuple[int | None, ...]


def span(sizes: Sequence[int], strides: Sequence[int], element: int = 4) -> int:
    """Bytes from the first to the last element of a strided array; 0 if it has none."""
    if 0 in sizes:
        return 0
    steps = sum((n - 1) * s for n, s in zip(sizes, strides, strict=True))
    return (steps + 1) * element


def extras(epilogue: Epilogue, rows: int, columns: int, strides: Sequence[int]) -> Bytes:
    """Bytes of the epilogue's extras; ``strides``: row strides of ``col`` and ``full`` ones."""
    left = iter(strides)
    found = []
    for extra in epilogue.extras:
        element = BYTES[extra.dtype]
        if extra.index == "full":
            found.append(span((rows, columns), (next(left), 1), element))
        elif extra.index == "col":
            found.append(span((rows,), (next(left),), element))
        else:
            found.append(element * (columns if extra.index == "row" else 1))
    return tuple(found)


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

    def operands(self, dims: Sequence[int]) -> Bytes:
        """A, packed B, extras, C."""
        m, lda, ldc, *strides = dims
        others = extras(self.epilogue, m, self.n, strides)
        a, c = span((m, self.k), (lda, 1)), span((m, self.n), (ldc, 1))
        return (a, None, *others, c)


@dataclass(frozen=True)
class BatchedMatmulTask:
    """C[b.., M, N] = epilogue(A[b.., M, K] B[b.., K, N]), f32, no operand known.

    ``transposed``: B is stored [b.., N, K]. Args and dims as `f32_bmm.BmmSpec` says.
    """

    batch_rank: int = 1
    transposed: bool = False
    epilogue: Epilogue = IDENTITY

    def operands(self, dims: Sequence[int]) -> Bytes:
        """A, B, extras, C."""
        r = self.batch_rank
        head, (m, k, n), strides = dims[:r], dims[r : r + 3], list(dims[r + 3 :])

        def take(rows: int, columns: int, strided: bool = True, element: int = 4) -> int:
            batch = [strides.pop(0) for _ in range(r)]
            row = strides.pop(0) if strided else 0
            return span((*head, rows, columns), (*batch, row, 1), element)

        a = take(m, k)
        b = take(n, k) if self.transposed else take(k, n)
        c = take(m, n)
        shapes = {"full": (m, n), "col": (m, 1), "row": (1, n), "scalar": (1, 1)}
        others = [
            take(*shapes[e.index], e.index in ("col", "full"), BYTES[e.dtype])
            for e in self.epilogue.extras
        ]
        return (a, b, *others, c)


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

    def operands(self, dims: Sequence[int]) -> Bytes:
        """X, packed W, extras, Y."""
        r = len(self.kernel)
        images, inner, outer = dims[0], dims[1 : 1 + r], dims[1 + r : 1 + 2 * r]
        step, *strides = dims[1 + 2 * r :]
        pixels = images * prod(outer)
        others = extras(self.epilogue, pixels, self.out_channels, strides)
        y = span((pixels, self.out_channels), (step, 1))
        return (4 * images * prod(inner) * self.channels, None, *others, y)


@dataclass(frozen=True)
class AttentionTask:
    """softmax(scale Q K^T + mask) V; fields, args and dims as `f32_attention.AttentionSpec`."""

    head_dim: int
    value_dim: int
    scale: float
    mask: str | None = None
    causal: bool = False
    masked_zero: bool = False

    def operands(self, dims: Sequence[int]) -> Bytes:
        """Q, K, V, mask if any, Y."""
        batch, heads, queries, keys, group = dims[:5]
        strides = [dims[i : i + 3] for i in range(6, 18, 3)]
        q = span((batch, heads, queries, self.head_dim), (*strides[0], 1))
        shared = (batch, heads // max(group, 1), keys)
        k = span((*shared, self.head_dim), (*strides[1], 1))
        v = span((*shared, self.value_dim), (*strides[2], 1))
        y = span((batch, heads, queries, self.value_dim), (*strides[3], 1))
        if self.mask is None:
            return (q, k, v, y)
        element = 4 if self.mask == "f32" else 1
        return (q, k, v, span((batch, heads, queries, keys), dims[18:22], element), y)
