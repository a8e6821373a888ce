"""The shapes that bench_kernels measures: those of real models, one line each."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels import bf16_conv, bf16_matmul, f32_conv
from tilewright.backends.kernels.bf16_attention import Bf16AttentionSpec
from tilewright.backends.kernels.bf16_conv import Bf16ConvSpec
from tilewright.backends.kernels.bf16_matmul import Bf16MatmulSpec
from tilewright.backends.kernels.f32_attention import AttentionSpec
from tilewright.backends.kernels.f32_bmm import BmmSpec
from tilewright.backends.kernels.f32_conv import ConvSpec
from tilewright.backends.kernels.f32_matmul import MatmulSpec, packing
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step

BIAS = Epilogue((Extra("row"),), (Step("add", (0, 1)),), 2)
BIAS_RELU = Epilogue((Extra("row"),), (Step("add", (0, 1)), Step("relu", (2,))), 3)
BIAS_GELU = Epilogue((Extra("row"),), (Step("add", (0, 1)), Step("gelu_erf", (2,))), 3)

MATMULS = (
    ("minilm qkv", 128, 384, 384, BIAS),
    ("minilm up", 128, 384, 1536, BIAS),
    ("minilm up gelu", 128, 384, 1536, BIAS_GELU),
    ("minilm down", 128, 1536, 384, BIAS),
    ("bert", 128, 768, 768, BIAS),
    ("power of two", 128, 1024, 1024, IDENTITY),
    ("resnet 1x1", 3136, 64, 256, BIAS_RELU),
    ("resnet 1x1", 196, 1024, 256, BIAS_RELU),
    ("decode", 1, 1536, 1536, IDENTITY),
    ("decode big", 1, 4096, 4096, IDENTITY),
    ("decode 4 rows", 4, 1536, 1536, IDENTITY),
    ("7 rows", 7, 768, 768, IDENTITY),
)
SQUARE = ("square", 512, 512, 512, IDENTITY)

PRODUCTS = (1, 3, 6)
"""Of bf16_matmul; more than one on some shapes only."""

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


BMMS = ((12, 128, 32, 128, True), (12, 128, 128, 64, False), (1, 128, 384, 384, False))
ATTENTIONS: tuple[tuple[int, int, int, int, str | None], ...] = (
    # heads, seq_q, seq_k, head size, mask
    (12, 128, 128, 32, "f32"),
    (12, 128, 128, 64, None),
    (12, 512, 512, 64, None),
    (8, 1, 1024, 64, None),
)


def cases() -> list[tuple[str, Case]]:
    """(family, launch) for every shape."""
    return [
        *(("f32_matmul", _matmul(*row)) for row in MATMULS),
        *(
            ("bf16_matmul", _matmul(*row, products))
            for row in (*MATMULS, SQUARE)
            for products in (PRODUCTS if row in (MATMULS[0], MATMULS[4], SQUARE) else (1,))
        ),
        *(("f32_conv", _conv(*row)) for row in CONVS),
        *(("bf16_conv", _conv(*row, 1)) for row in CONVS if row[-1] == 1),
        *(("f32_bmm", _bmm(*row)) for row in BMMS),
        *(("f32_attention", _attention(*row)) for row in ATTENTIONS),
        *(("bf16_attention", _attention(*row, p)) for row in ATTENTIONS for p in PRODUCTS),
    ]


def _matmul(
    label: str, m: int, k: int, n: int, epilogue: Epilogue, products: int | None = None
) -> Case:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((k, n)).astype(np.float32)
    extras = tuple(np.ones(n, np.float32) for _ in epilogue.extras)
    results = (np.zeros((m, n), np.float32),)
    text = f"{label} {m}x{k}x{n}"
    if products is None:
        f32 = MatmulSpec(k, n, epilogue)
        args = (a, packing.pack(b, f32), *extras)
        return Case(text, f32, args, results, (m, k, n), (), 0, 0)
    spec = Bf16MatmulSpec(k, n, products, epilogue)
    args = (a, bf16_matmul.packing.pack(b, spec), *extras)
    return Case(f"{text} x{products}", spec, args, results, (m, k, n), (), 0, 0)


def _conv(
    size: int, c: int, oc: int, k: int, stride: int, groups: int, products: int | None = None
) -> Case:
    rng = np.random.default_rng(0)
    geometry = (c, oc, (k, k), (stride,) * 2, (k // 2,) * 2, (1, 1), groups)
    x = rng.standard_normal((1, size, size, c)).astype(np.float32)
    weights = rng.standard_normal((oc, c // groups, k, k)).astype(np.float32)
    out = (size - 1) // stride + 1
    text = f"{size}x{size}x{c}-{oc} k{k} s{stride} g{groups}"
    spec: ConvSpec
    if products is None:
        spec = ConvSpec(*geometry, epilogue=BIAS_RELU)
        packed = f32_conv.packing.pack(weights, spec)
    else:
        spec = Bf16ConvSpec(*geometry, epilogue=BIAS_RELU, products=products)
        packed = bf16_conv.packing.pack(weights, spec)
    args = (x, packed, np.ones(oc, np.float32))
    results = (np.zeros((1, out, out, oc), np.float32),)
    return Case(text, spec, args, results, (1, size, size, out, out, oc), (), 0, 0)


def _attention(
    heads: int, seq_q: int, seq_k: int, size: int, mask: str | None, products: int | None = None
) -> Case:
    """[batch, seq, heads, size] operands, as projections leave them; a padding mask."""
    rng = np.random.default_rng(0)
    q, k, v, y = (
        rng.standard_normal((1, s, heads, size)).astype(np.float32)
        for s in (seq_q, seq_k, seq_k, seq_q)
    )
    strides = [(s * heads * size, size, heads * size) for s in (seq_q, seq_k, seq_k, seq_q)]
    dims: tuple[int, ...] = (1, heads, seq_q, seq_k, 1, 0, *(x for row in strides for x in row))
    args: tuple[np.ndarray, ...] = (q, k, v)
    if mask:
        args, dims = (*args, np.zeros(seq_k, np.float32)), (*dims, 0, 0, 0, 1)
    spec = AttentionSpec(size, size, size**-0.5, mask)
    text = f"{heads}x{seq_q}x{seq_k}x{size} {mask or ''}"
    if products is not None:
        spec = Bf16AttentionSpec(**vars(spec), products=products)
        text += f" x{products}"
    return Case(text, spec, args, (y,), dims, (), 0, 0)


def _bmm(batch: int, m: int, k: int, n: int, transposed: bool) -> Case:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((batch, m, k)).astype(np.float32)
    b = rng.standard_normal((batch, n, k) if transposed else (batch, k, n)).astype(np.float32)
    dims = (batch, m, k, n, m * k, k, k * n, k if transposed else n, m * n, n)
    text = f"{batch}x{m}x{k}x{n}{' transposed' if transposed else ''}"
    results = (np.zeros((batch, m, n), np.float32),)
    return Case(text, BmmSpec(1, transposed), (a, b), results, dims, (), 0, 0)
