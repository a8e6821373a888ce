"""What the cost model is fitted to and judged on: shapes, and every kernel that serves them.

Every class of tasks that a family brings gets shapes by the names of its fields (cost_tasks), so a
new family or a new element type needs nothing here.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from tilewright.backends.kernels.candidates import CLASSES, Candidate, candidates
from tilewright.backends.kernels.readings import Reading
from tilewright.backends.kernels.registry import families
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.target import Target
from tilewright.compiler.formats import formats
from tilewright.tools.bench.cost_tasks import Kind, kinds

EPILOGUES = ("", "bias", "bias gelu")
"""Of matrix products, in turn."""

MODEL_MATMULS = (
    # M, K, N of transformers: MiniLM, codelm, BERT, GPT-2
    *((m, k, n) for m in (1, 16, 128) for k, n in ((384, 1152), (384, 1536), (1536, 384))),
    *((128, k, n) for k, n in ((768, 2304), (768, 3072), (3072, 768), (768, 768))),
    (512, 384, 384),
    (1, 4096, 4096),
    # pointwise convolutions of ResNet-50
    (3136, 64, 256),
    (784, 512, 128),
    (196, 1024, 256),
)

FIT_MATMULS = ((3136, 256, 64), (784, 128, 512), (196, 256, 1024))
"""Many rows and short sums, which are seldom drawn."""

CONVS = {
    # size, C, OC, kernel, stride, groups; by use
    "fit": (
        (28, 128, 128, 3, 1, 1),
        (56, 64, 256, 1, 1, 1),
        (14, 256, 256, 3, 1, 1),
        (56, 256, 128, 1, 1, 1),
        (28, 96, 96, 3, 2, 1),
        (56, 96, 96, 3, 1, 96),
    ),
    "check": (
        (112, 3, 64, 7, 2, 1),
        (56, 64, 64, 3, 1, 1),
        (28, 128, 512, 1, 1, 1),
        (28, 256, 256, 3, 2, 1),
        (14, 512, 256, 1, 1, 1),
        (14, 1024, 256, 1, 1, 1),
        (7, 512, 512, 3, 1, 1),
        (7, 2048, 512, 1, 1, 1),
        (28, 256, 512, 1, 2, 1),
        (14, 576, 576, 3, 1, 576),
    ),
}

ATTENTIONS = {
    # heads, queries, keys, head size, mask, causal
    "fit": ((12, 96, 96, 64, None, False), (6, 200, 200, 32, "f32", False)),
    "check": (
        (12, 128, 128, 32, "f32", False),
        (12, 128, 128, 64, None, False),
        (8, 16, 16, 64, None, True),
        (12, 64, 64, 64, None, True),
        (4, 384, 384, 64, None, False),
        (8, 1, 512, 64, None, False),
    ),
}

BATCHED = {
    # batch, M, K, N, transposed
    "fit": ((12, 64, 64, 64, False), (6, 200, 32, 200, True)),
    "check": ((12, 128, 32, 128, True), (12, 128, 128, 32, False), (4, 33, 96, 70, False)),
}


@dataclass(frozen=True)
class Shape:
    """One computation at one size, and everything that can do it: one choice."""

    label: str
    task: Any
    dims: tuple[int, ...]

    def candidates(self, target: Target) -> tuple[Candidate, ...]:
        """Of any accuracy, those that read weights in a format of their own among them."""
        return candidates(self.task, target, max(CLASSES), frozenset(formats()))


@cache
def shapes(use: str) -> tuple[Shape, ...]:
    """``fit``: to fit constants to; ``check``: others, to judge them on. Raises TypeError for a
    class of tasks with fields that no shape here has."""
    found: list[Shape] = []
    for kind in kinds():
        if kind.form == "matmul":
            for i, size in enumerate(_sizes(use)):
                # Tasks that one family brings have fewer kernels, which differ in fewer ways.
                if kind.shared or i % 2 == 0:
                    found += matmul(kind, i // 2, *size, EPILOGUES[i % 3])
        elif kind.form == "conv":
            for i, row in enumerate(CONVS[use]):
                if kind.shared or i % 2:
                    found += conv(kind, i // 2, *row)
        elif kind.form == "attention":
            for i, line in enumerate(ATTENTIONS[use]):
                found += attention(kind, i, *line)
        elif kind.form == "reduction":
            for i, size in enumerate(REDUCED[use]):
                found += reduced(kind, i, *size)
        else:
            for i, product in enumerate(BATCHED[use]):
                found += batched(kind, i, *product)
    return tuple(found)


REDUCED = {
    "fit": ((16, 256, 4096), (128, 384, 8192)),
    "check": ((4, 512, 6000), (64, 256, 10000)),
}
"""M, K, N of products whose rows are reduced, and of their reduction alone."""

READINGS = (Reading("argmax"), Reading("log_sum_exp"))

UNPRICED = ("gather", "encode_rows", "cached_attention")
"""Operations without shapes: operands of random bits are no indices; and where there is but one
kernel, as for key-value caches in codes, its price decides nothing."""


def unreached(target: Target) -> tuple[str, ...]:
    """Families that could serve ``target`` and compute none of the shapes, but for UNPRICED."""
    tasks = {shape.task for use in ("fit", "check") for shape in shapes(use)}
    every = (candidates(task, target, max(CLASSES), frozenset(formats())) for task in tasks)
    reached = {c.family.name for found in every for c in found}
    return tuple(
        name
        for name, family in families().items()
        if family.candidates is not None
        and family.op not in UNPRICED
        and family.serves(target)
        and name not in reached
    )


def matmul(
    kind: Kind, turn: int, m: int, k: int, n: int, epilogue: str, name: str = ""
) -> Iterator[Shape]:
    """A product with a constant matrix."""
    for task, types in kind.make(turn, epilogue, k=k, n=n):
        yield Shape(_label(kind.label, name, f"{m}x{k}x{n}", types or epilogue), task, (m, k, n))


def reduced(kind: Kind, turn: int, m: int, k: int, n: int) -> Iterator[Shape]:
    """The rows of a product, or of a matrix in memory, reduced in one of READINGS."""
    reading = READINGS[turn % len(READINGS)]
    of_product = "product" in kind.names
    given: dict[str, Any] = {"product": MatmulTask(k, n)} if of_product else {"n": n}
    dims, size = ((m, k, n), f"{m}x{k}x{n}") if of_product else ((m, n), f"{m}x{n}")
    task = kind.task(**given, reading=reading)
    yield Shape(_label(kind.label, "", size, reading.kind), task, dims)


def conv(
    kind: Kind, turn: int, size: int, c: int, oc: int, kernel: int, stride: int, groups: int
) -> Iterator[Shape]:
    """A convolution of a square image, bias and ReLU."""
    out = (size - 1) // stride + 1
    geometry = {
        "channels": c,
        "out_channels": oc,
        "kernel": (kernel,) * 2,
        "strides": (stride,) * 2,
        "pads": (kernel // 2,) * 2,
        "dilations": (1, 1),
        "groups": groups,
    }
    text = f"{size}x{size}x{c}-{oc} k{kernel} s{stride} g{groups}"
    for task, types in kind.make(turn, "bias relu", **geometry):
        yield Shape(_label(kind.label, text, types), task, (1, size, size, out, out, oc))


def attention(
    kind: Kind,
    turn: int,
    heads: int,
    queries: int,
    keys: int,
    size: int,
    mask: str | None,
    causal: bool,
) -> Iterator[Shape]:
    """[batch, seq, heads, size] operands, as projections leave them; one mask for all rows."""
    strides = [(s * heads * size, size, heads * size) for s in (queries, keys, keys, queries)]
    dims: tuple[int, ...] = (1, heads, queries, keys, 1, 0, *(x for s in strides for x in s))
    if mask:
        dims = (*dims, 0, 0, 0, 1)
    fields = {"head_dim": size, "value_dim": size, "scale": size**-0.5}
    text = f"{heads}x{queries}x{keys}x{size}"
    for task, types in kind.make(turn, "", **fields, mask=mask, causal=causal):
        yield Shape(_label(kind.label, text, "causal" if causal else "", types), task, dims)


def batched(
    kind: Kind, turn: int, batch: int, m: int, k: int, n: int, transposed: bool
) -> Iterator[Shape]:
    """Products of two operands that are not constant."""
    dims = (batch, m, k, n, m * k, k, k * n, k if transposed else n, m * n, n)
    text = f"{batch}x{m}x{k}x{n}"
    for task, types in kind.make(turn, "", batch_rank=1, transposed=transposed):
        yield Shape(_label(kind.label, text, "transposed" if transposed else "", types), task, dims)


def _label(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _sizes(use: str) -> list[tuple[int, int, int]]:
    """Drawn evenly in their logarithm: M from 1 to 512, K and N from 64 to 4096, up to 2 GFLOP;
    also some of models."""
    rng = random.Random(use)
    drawn: list[tuple[int, int, int]] = list(MODEL_MATMULS if use == "check" else FIT_MATMULS)
    count = len(drawn) + (12 if use == "check" else 14)
    while len(drawn) < count:
        m = round(2 ** rng.uniform(0, 9))
        k, n = (8 * round(2 ** rng.uniform(3, 9)) for _ in range(2))
        if 2 * m * k * n <= 2e9:
            drawn.append((m, k, n))
    return drawn
