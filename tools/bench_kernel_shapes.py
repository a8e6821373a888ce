"""The shapes that bench_kernels measures: those of real models, one line each."""

from __future__ import annotations

import numpy as np

from tilewright.backends.kernels.f32_matmul import MatmulSpec, packing
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step

BIAS = Epilogue((Extra("row"),), (Step("add", (0, 1)),), 2)
BIAS_RELU = Epilogue((Extra("row"),), (Step("add", (0, 1)), Step("relu", (2,))), 3)
BIAS_GELU = Epilogue((Extra("row"),), (Step("add", (0, 1)), Step("gelu_erf", (2,))), 3)

MATMULS = (
    ("minilm qkv", 128, 384, 384, BIAS),
    ("minilm up", 128, 384, 1536, BIAS),
    ("minilm up gelu", 128, 384, 1536, BIAS),
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


def cases() -> list[tuple[str, Case]]:
    return [("f32_matmul", _matmul(*row)) for row in MATMULS]


def _matmul(label: str, m: int, k: int, n: int, epilogue: Epilogue) -> Case:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((k, n)).astype(np.float32)
    extras = tuple(np.ones(n, np.float32) for _ in epilogue.extras)
    results = (np.zeros((m, n), np.float32),)
    text = f"{label} {m}x{k}x{n}"
    args = (a, packing.pack(b), *extras)
    return Case(text, MatmulSpec(k, n, epilogue), args, results, (m, k, n), (), 0, 0)
