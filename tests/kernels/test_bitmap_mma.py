"""Bitmaps for GPUs' tensor cores: what is offered, where values lie, code, emulation."""

from __future__ import annotations

import numpy as np
import pytest
from support.emulated_products import COMPILER, check

from tilewright.backends.cuda import prelude
from tilewright.backends.cuda.toolchain import to_cubin, to_ptx, tools
from tilewright.backends.kernels.bitmap_mma import FAMILY, BitmapMmaSpec, packing
from tilewright.backends.kernels.bitmap_mma.cases import PATTERNS, _case, weights_of
from tilewright.backends.kernels.bitmap_mma.shapes import shapes
from tilewright.backends.kernels.bitmap_mma.spec import even, fitted, most_pieces
from tilewright.backends.kernels.candidates import candidates
from tilewright.backends.kernels.candidates import fitted as all_fitted
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.target import TARGETS, lookup
from tilewright.compiler.formats import named
from tilewright.compiler.formats.pruning import Unstructured
from tilewright.compiler.formats.sparse import Sparse
from tilewright.runtime import expressions

HOPPER = lookup("sm_90a")


def matrix(k: int, n: int, pattern: str = "spread") -> np.ndarray:
    return weights_of(k, n, pattern, np.random.default_rng([k, n]))


def test_weights_with_zeros_get_kernels_and_others_do_not() -> None:
    task, w = MatmulTask(70, 40), matrix(70, 40)

    def found(weights: np.ndarray, error: float) -> set[str]:
        these = all_fitted(task, HOPPER, weights, error)
        return {c.spec.element for c in these if c.family is FAMILY}

    assert found(w, 1e-2) == {"bf16", "f16"}
    assert found(w, 1e-3) == {"f16"}
    assert found(w, 0.0) == set()
    assert found(np.zeros_like(w), 1e-2) == {"bf16", "f16"}
    assert found(np.ones_like(w), 1e-2) == set()
    assert found(np.where(w == w.max(), np.float32(7e4), w), 1e-2) == {"bf16"}
    assert fitted("no task", HOPPER, w) == fitted(task, HOPPER, w[0]) == ()
    assert not [c for c in all_fitted(task, lookup("x86-64-v4"), w, 1e-2) if c.family is FAMILY]


@pytest.mark.parametrize("name", ["bf16-s50", "bf16-2in4"])
def test_formats_that_prune_have_room_for_what_they_keep(name: str) -> None:
    task = MatmulTask(130, 96)
    found = candidates(task, HOPPER, 1e-2, frozenset({name}))
    (one,) = [c for c in found if c.family is FAMILY and c.format == name]
    w = np.random.default_rng(0).standard_normal((130, 96)).astype(np.float32)
    assert one.layout is not None
    assert one.pack(w).nbytes == one.layout.bytes
    assert not [c for c in candidates(task, HOPPER, 1e-2) if c.family is FAMILY]


@pytest.mark.parametrize("pattern", ["spread", *PATTERNS])
def test_a_lane_finds_its_weights_by_counting_bits_before_them(pattern: str) -> None:
    """As a lane does it, for every weight, with no code of the packing's."""
    k, n = 150, 70
    w = matrix(k, n, pattern).astype(packing.TYPES["bf16"])
    spec = BitmapMmaSpec(k, n, *even(w != 0))
    packed = packing.pack(w.astype(np.float32), spec)
    halves, steps = packed.view(np.uint16), -(-k // 64)
    begins = packed[: 4 * (-(-n // 32) * steps + 1)].view(np.uint32)
    assert begins[-1] * 16 <= packed.nbytes
    bits = w.view(np.uint16)
    for at in range(k):
        for column in range(n):
            step, chunk, inside = at // 64, at % 64 // 32, at % 32
            begin = int(begins[column // 32 * steps + step]) * 16
            words = packed[begin : begin + 256].view(np.uint32).reshape(2, 4, 8)
            lane, j = column % 8 * 4 + inside // 8, column % 32 // 8 * 2 + inside % 8 // 4
            place, earlier = inside % 4 * 8 + lane % 8, ((1 << lane % 8) - 1) * 0x01010101
            word = int(words[chunk, lane // 8, j])
            if not word >> place & 1:
                assert bits[at, column] == 0
                continue
            parts = (words[:chunk], words[chunk, :, :j], words[chunk, : lane // 8, j])
            before = [int(other) for part in parts for other in part.reshape(-1)]
            own = word >> lane % 8 & 0x01010101 & ((1 << inside % 4 * 8) - 1)
            count = sum(x.bit_count() for x in (*before, word & earlier, own))
            assert halves[(begin + 256) // 2 + count] == bits[at, column] != 0


def test_bytes_are_those_of_values_and_a_bit_a_weight() -> None:
    w = matrix(1024, 1024)
    spec = BitmapMmaSpec(1024, 1024, *even(w != 0))
    assert packing.pack(w, spec).nbytes == spec.packed_bytes
    floor = 2 * np.count_nonzero(w) + w.size // 8
    assert floor < spec.packed_bytes < 1.007 * floor
    kept = named("bf16-s50")
    assert isinstance(kept, Sparse)
    assert most_pieces(kept, 1024, 1024) * 16 < 1.008 * w.size


def test_measured_weights_fill_what_there_is_room_for() -> None:
    spec = BitmapMmaSpec(256, 96, 2000)
    assert np.count_nonzero(packing.unpack(packing.sample(spec), spec)) > 0.9 * 8 * 2000
    narrow = BitmapMmaSpec(256, 96, 2000, 2048, format=Sparse(16, Unstructured(50)))
    there = packing.unpack(packing.sample(narrow), narrow)["codes"] != 0
    assert there.reshape(4, 64, 3, 32).sum(axis=(1, 3)).max() == (2048 - 256) // 2


def test_what_there_is_not_is_refused() -> None:
    kept = named("bf16-s50")
    assert isinstance(kept, Sparse)
    with pytest.raises(ValueError, match=r"^2 pieces of values are too few for these weights$"):
        packing.pack(np.ones((64, 32), np.float32), BitmapMmaSpec(64, 32, 2))
    with pytest.raises(ValueError, match=r"^no bitmaps of f32$"):
        BitmapMmaSpec(64, 32, 2, element="f32")
    with pytest.raises(ValueError, match=r"^no bitmaps of f16 in a format$"):
        BitmapMmaSpec(64, 32, 2, element="f16", format=kept)
    with pytest.raises(ValueError, match=r"^formats bf16 and f32 with elements of f16$"):
        BitmapMmaSpec(64, 32, 2, element="f16", a="bf16")
    assert FAMILY.stored is not None
    assert FAMILY.stored(BitmapMmaSpec(64, 32, 2, element="f16"), ("bf16",), "f32") is None
    assert FAMILY.stored(BitmapMmaSpec(64, 32, 2), ("f16",), "f32") is None
    with pytest.raises(
        ValueError, match=r"^steps of 4368 bytes: expected pieces of 16, up to 4352$"
    ):
        BitmapMmaSpec(64, 32, 2, 4368)
    with pytest.raises(
        ValueError, match=r"^a step of 4352 bytes: 512 are too few for these weights$"
    ):
        packing.pack(np.ones((64, 32), np.float32), BitmapMmaSpec(64, 32, 300, 512))


def test_zeros_with_a_sign_lose_it() -> None:
    w = np.array([[1.0, -0.0], [0.0, -2.0]], np.float32)
    spec = BitmapMmaSpec(2, 2, 1)
    assert not np.signbit(packing.unpack(packing.pack(w, spec), spec)[0, 1])


@pytest.mark.parametrize("name", ["sm_80", "sm_90a"])
def test_one_product_runs_for_every_number_of_rows(name: str) -> None:
    spec = BitmapMmaSpec(4096, 4096, 1 << 20, a="bf16", c="bf16")
    assert FAMILY.cuda is not None
    kernel = FAMILY.cuda(spec, TARGETS[name], "kernel")
    for rows in (0, 1, 2, 3, 8, 9, 17, 33, 64, 65, 400):
        for stride, address in ((4096, 0), (4100, 0), (4096, 8)):
            values = {"p0": rows, "p1": stride, "p2": 4096, "sms": 132, "a0": address}
            ran = [
                e.suffix
                for e in kernel.entries
                if all(expressions.evaluate(g, values) for g in e.grid)
            ]
            least = next(s.rows for s in shapes(spec, HOPPER) if rows <= s.rows or s.rows == 64)
            if not rows:
                assert ran == []
            elif (stride, address) == (4096, 0):
                assert ran == [f"_{least}_as_is"]
            else:
                assert ran == [f"_{least}"]
    for entry in kernel.entries:
        assert int(entry.shared) <= (TARGETS[name].l1_kib - 1) * 1024
        assert name == "sm_90a" or (entry.cluster == (1, 1, 1) and not entry.overlaps)
        assert entry.overlaps == (name == "sm_90a")
    assert kernel.workspace == "0"


@pytest.mark.skipif(not all(tools()), reason="no CUDA compiler or assembler")
@pytest.mark.parametrize(
    ("row", "k", "n", "a"),
    [
        ("sm_90a", 4096, 4096, "f32"),
        *(
            pytest.param(row, k, n, "bf16", marks=pytest.mark.slow)
            for row in ("sm_80", "sm_90a")
            for k, n in ((4096, 4096), (1024, 384), (4096, 14336))
        ),
    ],
)
def test_nothing_is_spilled(row: str, k: int, n: int, a: str) -> None:
    spec = BitmapMmaSpec(k, n, 1 << 20, 2560, a=a, c=a)
    assert FAMILY.cuda is not None
    text = prelude.expand(FAMILY.cuda(spec, lookup(row), "kernel").source)
    made = to_cubin(to_ptx(text, "kernel", lookup(row)), "kernel", lookup(row))
    assert made.resources
    assert not [r for r in made.resources if r.spill_stores or r.spill_loads or r.stack]


EMULATED = (
    ("3x70x75-0-bf16-", "sm_90a"),
    ("20x264x70-5-bf16-bf16-bf16", "sm_80"),
    pytest.param("40x70x75-0-f16-f32-f32+0-spread-special", "sm_90a", marks=pytest.mark.slow),
)


@pytest.mark.skipif(COMPILER is None, reason="no g++")
@pytest.mark.parametrize(("label", "row"), EMULATED)
def test_the_text_computes_what_its_reference_does(label: str, row: str) -> None:
    case = next(c for c in FAMILY.cases() if c.label.startswith(label))
    check(FAMILY, case, row, late=True)
    check(FAMILY, case, row, late=False, shift=16)


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no g++")
@pytest.mark.parametrize("row", ["sm_80", "sm_90a"])
def test_many_launches_compute_what_their_reference_does(row: str) -> None:
    for case in (*FAMILY.cases()[::4], _case(1, 1300, 45, "bf16"), _case(9, 6500, 40, "bf16")):
        check(FAMILY, case, row, late=True)
        check(FAMILY, case, row, late=False, shift=16)
