"""Random region specs with arrays: a seed gives (spec, arrays, sizes of results, parameters)."""

import random

import numpy as np
from support.region_oracle import DTYPES

from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.spec import (
    Const,
    Iota,
    Load,
    Op,
    Piece,
    Reduce,
    RegionSpec,
    Store,
)

EXTENTS = (1, 2, 3, 4, 5, 8, 16, 17, 31, 32, 33, 64, 100, 129, 256)
TYPES = ("f32", "f32", "f32", "f16", "bf16", "i32", "i64", "u8")
UNARY = ("tanh", "sigmoid", "abs", "relu", "sin", "gelu_erf")
BINARY = ("add", "sub", "max", "min")


def random_region(seed):
    """Loads of any layout, a few operators, pieces, reductions, full and reduced stores."""
    rng = random.Random(seed)
    rank = rng.randint(1, 4)
    extents = _extents(rng, rank)
    symbolic = rng.random() < 0.5
    domain = tuple(dims.param(a) if symbolic else extents[a] for a in range(rank))
    reduced = tuple(sorted(rng.sample(range(rank), rng.randint(1, rank))))
    if rng.random() < 0.4:
        reduced = ()
    body, inputs, arrays = [], [], []
    values = np.random.default_rng(seed)

    def add(node):
        body.append(node)
        return len(body) - 1

    def floating(dtype, node):
        return node if dtype == "f32" else add(Op("cast", (node,), "f32"))

    known = []
    for _ in range(rng.randint(1, 3)):
        dtype = rng.choice(TYPES)
        order = list(range(rank))
        if rng.random() < 0.4:
            rng.shuffle(order)
        present = [a for a in order if rng.random() < 0.85]
        steps = dict(zip(present, dims.row_major([domain[a] for a in present]), strict=True))
        shape = [extents[a] for a in present]
        numbers = values.normal(size=shape) * (1 if DTYPES[dtype].kind in "fV" else 20)
        arrays.append(np.abs(numbers).astype(DTYPES[dtype]))
        inputs.append(dtype)
        load = add(Load(len(inputs) - 1, tuple(steps.get(a, 0) for a in range(rank))))
        known.append(floating(dtype, load))
    if rng.random() < 0.3:
        known.append(floating("i64", add(Iota(rng.randrange(rank)))))
    if rng.random() < 0.3:
        axis = rng.randrange(rank)
        start = rng.randint(0, extents[axis])
        other = add(Const(0.5, "f32"))
        known.append(add(Piece(axis, (start,), (rng.choice(known), other))))
    full, rows = list(known), []
    for _ in range(rng.randint(1, 6)):
        now = full + rows
        kind = rng.random()
        if kind < 0.3 and reduced and len(rows) < 3:
            rows.append(add(Reduce(rng.choice(("sum", "max", "min")), rng.choice(full))))
        elif kind < 0.6:
            full.append(add(Op(rng.choice(UNARY), (rng.choice(full),), "f32")))
        else:
            # Small values only: what is compared are roundings, not cancellation.
            picked = (rng.choice(full), rng.choice(now))
            bounded = tuple(add(Op("tanh", (i,), "f32")) for i in picked)
            full.append(add(Op(rng.choice(BINARY), bounded, "f32")))
    outputs, sizes = [], []
    size = int(np.prod(extents))
    result = rng.choice(("f32", "f32", "bf16", "f16"))
    value = full[-1] if result == "f32" else add(Op("cast", (full[-1],), result))
    outputs.append(Store(value, result, dims.row_major(domain)))
    sizes.append(size)
    if rows:
        kept = [a for a in range(rank) if a not in reduced]
        steps = dict(zip(kept, dims.row_major([domain[a] for a in kept]), strict=True))
        outputs.append(Store(rows[-1], "f32", tuple(steps.get(a, 0) for a in range(rank))))
        sizes.append(int(np.prod([extents[a] for a in kept])))
    spec = RegionSpec(
        domain=domain, reduced=reduced if rows else (), inputs=tuple(inputs), body=tuple(body),
        outputs=tuple(outputs), params=rank if symbolic else 0,
    )  # fmt: skip
    return spec, arrays, sizes, tuple(extents) if symbolic else ()


def _extents(rng, rank):
    """At most 60000 points."""
    while True:
        extents = [rng.choice(EXTENTS) for _ in range(rank)]
        if np.prod(extents) <= 60000:
            return extents
