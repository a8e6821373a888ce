"""The shapes that bench_kernels measures: those of real models, in every element type there is."""

from __future__ import annotations

from collections.abc import Iterator

from tilewright.tools.bench.cost_points import (
    Shape,
    attention,
    batched,
    conv,
    matmul,
    reduced,
)
from tilewright.tools.bench.cost_tasks import kinds

MATMULS = (
    # where from, M, K, N, epilogue
    ("minilm qkv", 128, 384, 384, "bias"),
    ("minilm up", 128, 384, 1536, "bias"),
    ("minilm up", 128, 384, 1536, "bias gelu"),
    ("minilm down", 128, 1536, 384, "bias"),
    ("bert", 128, 768, 768, "bias"),
    ("power of two", 128, 1024, 1024, ""),
    ("square", 512, 512, 512, ""),
    ("resnet 1x1", 3136, 64, 256, "bias relu"),
    ("resnet 1x1", 196, 1024, 256, "bias relu"),
    ("decode", 1, 1536, 1536, ""),
    ("decode big", 1, 4096, 4096, ""),
    ("decode 4 rows", 4, 1536, 1536, ""),
    ("7 rows", 7, 768, 768, ""),
)

CONVS = (
    # size, C, OC, kernel, stride, groups
    (224, 3, 64, 7, 2, 1),
    (56, 64, 64, 3, 1, 1),
    (28, 128, 128, 3, 1, 1),
    (14, 256, 256, 3, 1, 1),
    (7, 512, 512, 3, 1, 1),
    (56, 64, 256, 1, 1, 1),
    (56, 256, 64, 1, 1, 1),
    (28, 512, 1024, 1, 2, 1),
    (56, 128, 128, 3, 2, 1),
    (112, 32, 32, 3, 1, 32),
    (56, 144, 144, 3, 2, 144),
    (14, 576, 576, 3, 1, 576),
)

BATCHED = ((12, 128, 32, 128, True), (12, 128, 128, 64, False), (1, 128, 384, 384, False))

REDUCED = ((1, 384, 8192), (128, 384, 32768))

ATTENTIONS: tuple[tuple[int, int, int, int, str | None, bool], ...] = (
    # heads, queries, keys, head size, mask, causal
    (12, 128, 128, 32, "f32", False),
    (12, 128, 128, 64, None, False),
    (12, 512, 512, 64, None, False),
    (8, 1, 1024, 64, None, False),
)


def shapes() -> Iterator[Shape]:
    """Every shape for every class of tasks of its form; of several element types one in turn."""
    for kind in kinds():
        if kind.form == "matmul":
            for i, (name, m, k, n, epilogue) in enumerate(MATMULS):
                yield from matmul(kind, i, m, k, n, epilogue, name)
        elif kind.form == "conv":
            for i, row in enumerate(CONVS):
                yield from conv(kind, i, *row)
        elif kind.form == "attention":
            for i, line in enumerate(ATTENTIONS):
                yield from attention(kind, i, *line)
        elif kind.form == "reduction":
            for i, size in enumerate(REDUCED):
                yield from reduced(kind, i, *size)
        else:
            for i, product in enumerate(BATCHED):
                yield from batched(kind, i, *product)
