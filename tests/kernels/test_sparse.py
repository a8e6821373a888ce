"""Products with sparse weights: which ones are offered for what, and scipy's sparse products."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from llvmlite import ir
from support.launches import VNNI_ROW

from tilewright.backends.kernels import apart_matmul, bitmap_matmul, block_matmul
from tilewright.backends.kernels.candidates import fitted
from tilewright.backends.kernels.family import evaluate
from tilewright.backends.kernels.registry import families
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.jit import call, compile_module
from tilewright.backends.target import TARGETS, runs_here
from tilewright.backends.tuning.measure import repeated
from tilewright.compiler.formats import formats, named

ROWS = [TARGETS[name] for name in ("x86-64-v3", "x86-64-v4", "sapphirerapids")]
WIDE = TARGETS["sapphirerapids"]
EVERY = frozenset(formats())


def pruned(k, n, share, deep=1, wide=1, seed=0):
    """Weights of which a share is 0, in blocks."""
    rng = np.random.default_rng(seed)
    there = rng.random((-(-k // deep), -(-n // wide))) >= share
    mask = np.repeat(np.repeat(there, deep, axis=0), wide, axis=1)[:k, :n]
    return np.where(mask, rng.standard_normal((k, n)), 0).astype(np.float32)


def offered(weights, target=WIDE, error=0.0, named_formats=frozenset()):
    """(family, format, k of four bytes) of what is there for these weights alone."""
    found = fitted(MatmulTask(*weights.shape), target, weights, error, named_formats)
    return {(c.family.name, c.format, c.spec.q) for c in found}


def test_weights_without_zeros_have_no_sparse_kernels():
    assert offered(pruned(64, 64, 0.0), error=1e-2, named_formats=EVERY) == set()
    assert offered(pruned(64, 64, 0.1), error=1e-2, named_formats=EVERY) == set()


def test_zeros_anywhere_are_bitmaps():
    w = pruned(128, 96, 0.5)
    assert offered(w) == {("bitmap_matmul", "", 1)}
    short = {("bitmap_matmul", "", 1), ("bitmap_matmul", "", 2)}
    assert offered(w, error=1e-2) == short
    assert offered(w, error=1e-2, named_formats=EVERY) == {
        *short,
        ("bitmap_matmul", "w8a8-zeros", 4),
    }
    assert offered(w, TARGETS["x86-64-v3"], error=1e-2) == {("bitmap_matmul", "", 1)}


def test_zeros_in_blocks_are_blocks_and_bitmaps():
    w = pruned(128, 96, 0.9, deep=1, wide=16)
    assert ("block_matmul", "", 1) in offered(w)
    aligned = pruned(128, 96, 0.7, deep=4, wide=16)
    assert {("block_matmul", "", 1), ("block_matmul", "w8a8-zeros", 4)} <= offered(
        aligned, named_formats=EVERY
    )
    assert ("block_matmul", "", 1) not in offered(pruned(128, 96, 0.3, deep=4, wide=8))


def widths(weights, q=1):
    found = fitted(MatmulTask(*weights.shape), WIDE, weights, 0.0, EVERY)
    return {
        c.spec.wide: c.spec.blocks
        for c in found
        if c.family.name == "block_matmul" and c.spec.q == q
    }


def test_blocks_of_four_columns_are_offered_where_they_are_fewer():
    assert widths(pruned(128, 96, 0.7, deep=4, wide=16)).keys() == {16}
    narrow = widths(pruned(128, 96, 0.9, deep=1, wide=4))
    assert narrow.keys() == {4, 16}
    assert narrow[4] * 4 < 0.5 * narrow[16] * 16
    assert widths(pruned(128, 96, 0.7, deep=1, wide=4)).keys() == {4}
    assert widths(pruned(128, 96, 0.7, deep=4, wide=4), q=4).keys() == {4}
    assert widths(pruned(128, 96, 0.7, deep=1, wide=1)) == {}


def apart(weights, target=WIDE):
    found = fitted(MatmulTask(*weights.shape), target, weights, 0.0, EVERY)
    return {c.spec.wide: c.spec.blocks for c in found if c.family.name == "apart_matmul"}


def test_four_k_anywhere_make_a_block_where_those_that_follow_each_other_are_more():
    wide = pruned(128, 96, 0.9, deep=1, wide=16)
    lines = (wide.reshape(128, 6, 16) != 0).any(axis=2).sum(axis=0)
    assert apart(wide) == {16: 6 * -(-int((-(-lines // 4)).sum()) // 6)}
    narrow = apart(pruned(128, 96, 0.9, deep=1, wide=4))
    assert narrow.keys() == {4, 16}
    assert narrow[4] * 4 < 0.6 * narrow[16] * 16
    assert apart(pruned(128, 96, 0.9, deep=4, wide=16)) == {}
    assert apart(pruned(128, 96, 0.3, deep=1, wide=16)) == {}
    assert apart(wide, TARGETS["x86-64-v4"]) == {}


def test_a_task_of_another_kind_has_none():
    assert fitted(("a task of nobody",), WIDE, np.zeros((4, 4), np.float32)) == ()


@pytest.mark.parametrize("name", ["bf16-s50", "bf16-2in4", "w8a8-s50"])
def test_formats_that_prune_are_bitmaps(name):
    found = bitmap_matmul.FAMILY.candidates(MatmulTask(64, 96), WIDE)
    (spec,) = [s for s in found if s.format.name == name]
    w = np.random.default_rng(0).standard_normal((64, 96)).astype(np.float32)
    packed = bitmap_matmul.FAMILY.pack(named(name).encode(w), spec)
    assert packed.nbytes == bitmap_matmul.FAMILY.layout(spec).bytes


def test_more_weights_than_there_is_room_for_are_refused():
    dense = np.ones((64, 32), np.float32)
    with pytest.raises(ValueError, match="2 lines of values are too few for these weights"):
        bitmap_matmul.FAMILY.pack(dense, bitmap_matmul.BitmapMatmulSpec(64, 32, 2))
    with pytest.raises(ValueError, match="3 blocks are too few for these weights"):
        block_matmul.FAMILY.pack(dense, block_matmul.BlockMatmulSpec(64, 32, 3))
    codes = named("w8a8-zeros").encode(dense)
    with pytest.raises(ValueError, match="31 blocks are too few for these weights"):
        apart_matmul.FAMILY.pack(codes, apart_matmul.ApartMatmulSpec(64, 32, 31))


def test_specs_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="weights are rounded to bf16 or to a format, not to both"):
        bitmap_matmul.BitmapMatmulSpec(64, 32, 2, named("bf16-s50"), short=True)
    with pytest.raises(ValueError, match="blocks of 8 columns: expected 16 or 4"):
        block_matmul.BlockMatmulSpec(64, 32, 2, wide=8)
    with pytest.raises(ValueError, match="sums of 65537: numbers of blocks have 16 bits"):
        block_matmul.BlockMatmulSpec(65537, 32, 2)
    with pytest.raises(ValueError, match="blocks of 8 columns: expected 16 or 4"):
        apart_matmul.ApartMatmulSpec(64, 32, 2, wide=8)
    with pytest.raises(ValueError, match="sums of 65537: places of k have 16 bits"):
        apart_matmul.ApartMatmulSpec(65537, 32, 2)


def test_zeros_with_a_sign_lose_it():
    w = np.array([[1.0, -0.0], [0.0, -2.0]], np.float32)
    for made, spec in (
        (bitmap_matmul.FAMILY, bitmap_matmul.BitmapMatmulSpec(2, 2, 1)),
        (block_matmul.FAMILY, block_matmul.BlockMatmulSpec(2, 2, 2)),
    ):
        back = made.unpack(made.pack(w, spec), spec)
        assert back.tobytes() == (w + 0.0).tobytes()


@pytest.mark.parametrize("name", [n for n, f in families().items() if f.sample is not None])
def test_weights_for_measurements_have_the_size_of_the_layout(name):
    family = families()[name]
    task = MatmulTask(100, 70)
    specs = list(family.candidates(task, WIDE)) if family.candidates else []
    for deep in (4, 1):
        specs += family.fitted(task, WIDE, pruned(100, 70, 0.9, deep=deep, wide=16))
    for spec in specs:
        packed = family.sample(spec)
        assert packed.nbytes == family.layout(spec).bytes
        np.testing.assert_array_equal(packed, family.pack(family.unpack(packed, spec), spec))
    copies = repeated(packed, packed.nbytes + 64, 3)
    for i in range(3):
        start = i * (packed.nbytes + 64)
        np.testing.assert_array_equal(copies[start : start + packed.nbytes], packed)


@pytest.mark.parametrize("target", [*ROWS, VNNI_ROW], ids=lambda t: t.name)
def test_products_are_those_of_scipy(target):
    """Matrices of all densities, in f32 and exactly in 8 bits."""
    if not runs_here(target):
        pytest.skip(f"{target.name} code does not run on this machine")
    k, n = 200, 90
    rng = np.random.default_rng(5)
    jobs = []
    for share in (0.5, 0.97):
        w = pruned(k, n, share, deep=4, wide=16 if share > 0.9 else 1)
        found = fitted(MatmulTask(k, n), target, w, 0.0, EVERY)
        jobs += [(c, w if not c.format else np.sign(w)) for c in found]
    module = ir.Module("sparse")
    for i, (c, _) in enumerate(jobs):
        c.family.emit(module, c.spec, target, f"kernel{i}")
    library = compile_module(module, target)
    for i, (c, w) in enumerate(jobs):
        packed = c.pack(w)
        for m in (1, 5, 40):
            a = rng.integers(-127, 128, (m, k)).astype(np.float32)
            a[:, 0] = 127
            out = np.full((m, n), np.nan, np.float32)
            size = evaluate(c.family.scratch_bytes(c.spec), (m, k, n))
            units = evaluate(c.family.units(c.spec), (m, k, n))
            scratch = np.zeros(size // 4 + 32, np.float32)
            status = call(
                library.kernel(f"kernel{i}"), [a, packed, out], (m, k, n), [(0, units)], scratch
            )
            assert status == 0
            wanted = (scipy.sparse.csr_matrix(w.T).astype(np.float64) @ a.T.astype(np.float64)).T
            np.testing.assert_allclose(out, wanted, 2e-5, 2e-5 * np.abs(wanted).max())
