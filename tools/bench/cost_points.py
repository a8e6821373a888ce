"""What the cost model is fitted to and judged on: shapes, and every kernel that serves them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.candidates import CLASSES, Candidate, candidates
from tilewright.backends.kernels.tasks import AttentionTask, BatchedMatmulTask, ConvTask, MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step
from tilewright.backends.target import Target

EPILOGUES = {
    "": IDENTITY,
    "bias": Epilogue((Extra("row"),), (Step("add", (0, 1)),), 2),
    "bias gelu": Epilogue((Extra("row"),), (Step("add", (0, 1)), Step("gelu_erf", (2,))), 3),
    "bias relu": Epilogue((Extra("row"),), (Step("add", (0, 1)), Step("relu", (2,))), 3),
}

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


def shapes(use: str) -> tuple[Shape, ...]:
    """``fit``: to fit constants to; ``check``: others, to judge them on."""
    found = list(_matmuls(use))
    for size, c, oc, kernel, stride, groups in CONVS[use]:
        out = (size - 1) // stride + 1
        task = ConvTask(
            *(c, oc, (kernel,) * 2, (stride,) * 2, (kernel // 2,) * 2, (1, 1), groups),
            epilogue=EPILOGUES["bias relu"],
        )
        label = f"conv {size}x{size}x{c}-{oc} k{kernel} s{stride} g{groups}"
        found.append(Shape(label, task, (1, size, size, out, out, oc)))
    for heads, queries, keys, size, mask, causal in ATTENTIONS[use]:
        strides = [(s * heads * size, size, heads * size) for s in (queries, keys, keys, queries)]
        dims: tuple[int, ...] = (1, heads, queries, keys, 1, 0, *(x for s in strides for x in s))
        if mask:
            dims = (*dims, 0, 0, 0, 1)
        label = f"attention {heads}x{queries}x{keys}x{size}{' causal' if causal else ''}"
        found.append(Shape(label, AttentionTask(size, size, size**-0.5, mask, causal), dims))
    for batch, m, k, n, transposed in BATCHED[use]:
        dims = (batch, m, k, n, m * k, k, k * n, k if transposed else n, m * n, n)
        label = f"batched {batch}x{m}x{k}x{n}{' transposed' if transposed else ''}"
        found.append(Shape(label, BatchedMatmulTask(1, transposed), dims))
    return tuple(found)


def _matmuls(use: str) -> Iterator[Shape]:
    """Sizes drawn evenly in their logarithm: M from 1 to 512, K and N from 64 to 4096, up to 2
    GFLOP; for ``check`` also those of models."""
    rng = random.Random(use)
    names = tuple(EPILOGUES)
    drawn: list[tuple[int, int, int]] = list(MODEL_MATMULS) if use == "check" else []
    count = len(drawn) + (20 if use == "check" else 22)
    while len(drawn) < count:
        m = round(2 ** rng.uniform(0, 9))
        k, n = (8 * round(2 ** rng.uniform(3, 9)) for _ in range(2))
        if 2 * m * k * n <= 2e9:
            drawn.append((m, k, n))
    for i, (m, k, n) in enumerate(drawn):
        name = names[i % 3]
        task = MatmulTask(k, n, EPILOGUES[name])
        yield Shape(f"matmul {m}x{k}x{n} {name}".rstrip(), task, (m, k, n))
