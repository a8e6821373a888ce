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
from tilewright.backends.kernels.registry import families
from tilewright.backends.target import Target
from tilewright.tools.bench.cost_tasks import Kind, kinds

EPILOGUES = ("", "bias", "bias gelu")
"""Of matrix products, in turn."""

MODEL_MATMULS = (
    # M, K, N of transformers: MiniLM, codelm, BERT, GPT-2
    *((m, k, n) for m in (1, 16, 128) for k, n in ((384, 1152), (384, 1536), (1536, 384))),
    *((128, k, n) for k, n in ((768, 2304), (768, 3072), (3072, 768), (768, 768))),
    (512, 384, 384),
    (1, 4096, 4096),
)

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
        """Of any accuracy."""
        return candidates(self.task, target, max(CLASSES))


@cache
def shapes(use: str) -> tuple[Shape, ...]:
    """``fit``: to fit constants to; ``check``: others, to judge them on. Raises TypeError for a
    class of tasks with fields that no shape here has."""
    makers = {
        "matmul": _matmuls,
        "conv": _convs,
        "attention": _attentions,
        "batched": _batched,
    }
    return tuple(shape for kind in kinds() for shape in makers[kind.form](kind, use))


def unreached(target: Target) -> tuple[str, ...]:
    """Families that could serve ``target`` and compute none of the shapes."""
    tasks = {shape.task for use in ("fit", "check") for shape in shapes(use)}
    reached = {c.family.name for task in tasks for c in candidates(task, target, max(CLASSES))}
    return tuple(
        name
        for name, family in families().items()
        if family.candidates is not None
        and (family.supports is None or family.supports(target))
        and name not in reached
    )


def _matmuls(kind: Kind, use: str) -> Iterator[Shape]:
    for i, (m, k, n) in enumerate(_sizes(use)):
        # The other element types have fewer kernels, whose times differ in fewer ways.
        if kind.typed and i % 2:
            continue
        name = EPILOGUES[i % 3]
        for task, types in kind.make(i // 2, name, k=k, n=n):
            label = f"{kind.label} {m}x{k}x{n} {types or name}"
            yield Shape(label.rstrip(), task, (m, k, n))


def _convs(kind: Kind, use: str) -> Iterator[Shape]:
    for i, (size, c, oc, kernel, stride, groups) in enumerate(CONVS[use]):
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
        for task, types in kind.make(i, "bias relu", **geometry):
            label = f"{kind.label} {size}x{size}x{c}-{oc} k{kernel} s{stride} g{groups} {types}"
            yield Shape(label.rstrip(), task, (1, size, size, out, out, oc))


def _attentions(kind: Kind, use: str) -> Iterator[Shape]:
    for i, (heads, queries, keys, size, mask, causal) in enumerate(ATTENTIONS[use]):
        strides = [(s * heads * size, size, heads * size) for s in (queries, keys, keys, queries)]
        dims: tuple[int, ...] = (1, heads, queries, keys, 1, 0, *(x for s in strides for x in s))
        if mask:
            dims = (*dims, 0, 0, 0, 1)
        fields = {"head_dim": size, "value_dim": size, "scale": size**-0.5}
        for task, types in kind.make(i, "", **fields, mask=mask, causal=causal):
            label = f"{kind.label} {heads}x{queries}x{keys}x{size}{' causal' if causal else ''}"
            yield Shape(f"{label} {types}".rstrip(), task, dims)


def _batched(kind: Kind, use: str) -> Iterator[Shape]:
    for i, (batch, m, k, n, transposed) in enumerate(BATCHED[use]):
        dims = (batch, m, k, n, m * k, k, k * n, k if transposed else n, m * n, n)
        for task, types in kind.make(i, "", batch_rank=1, transposed=transposed):
            label = f"{kind.label} {batch}x{m}x{k}x{n}{' transposed' if transposed else ''}"
            yield Shape(f"{label} {types}".rstrip(), task, dims)


def _sizes(use: str) -> list[tuple[int, int, int]]:
    """Drawn evenly in their logarithm: M from 1 to 512, K and N from 64 to 4096, up to 2 GFLOP;
    for ``check`` also those of models."""
    rng = random.Random(use)
    drawn: list[tuple[int, int, int]] = list(MODEL_MATMULS) if use == "check" else []
    count = len(drawn) + (20 if use == "check" else 22)
    while len(drawn) < count:
        m = round(2 ** rng.uniform(0, 9))
        k, n = (8 * round(2 ** rng.uniform(3, 9)) for _ in range(2))
        if 2 * m * k * n <= 2e9:
            drawn.append((m, k, n))
    return drawn
