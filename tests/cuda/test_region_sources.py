"""The CUDA C++ of regions, compiled here: no GPU runs it."""

import pytest
from support.random_regions import random_region

from tilewright.backends import target
from tilewright.backends.cuda import prelude
from tilewright.backends.cuda.region import region_kernel
from tilewright.backends.cuda.toolchain import to_cubin, to_ptx, tools
from tilewright.backends.llvm.emit.elementwise import OPS
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.spec import (
    COMPARISONS,
    Gather,
    Load,
    Op,
    Reduce,
    RegionSpec,
    Store,
)
from tilewright.runtime.expressions import evaluate

P = dims.param
HOPPER, AMPERE = target.lookup("sm_90a"), target.lookup("sm_80")
compiling = pytest.mark.skipif(not tools()[0], reason="no CUDA compiler is installed")


def chain(rows, length, names, dtype="f32"):
    """Operators one after the other over [rows, length]."""
    body = [Load(0, (length, 1))]
    for name in names:
        body.append(Op(name, (len(body) - 1,), dtype))
    return RegionSpec(
        domain=(rows, length), inputs=(dtype,), body=tuple(body), params=2,
        outputs=(Store(len(body) - 1, dtype, (length, 1)),),
    )  # fmt: skip


def total(rows, length):
    """Sums of rows."""
    return RegionSpec(
        domain=(rows, length), reduced=(1,), inputs=("f32",), params=2,
        body=(Load(0, (length, 1)), Reduce("sum", 0)), outputs=(Store(1, "f32", (1, 0)),),
    )  # fmt: skip


def ptx(spec, row=HOPPER):
    return to_ptx(prelude.expand(region_kernel(spec, row, "kernel").source), "kernel", row)


def test_equal_specs_give_equal_sources():
    for seed in range(40):
        spec, *_ = random_region(seed)
        first, second = (region_kernel(spec, HOPPER, "kernel") for _ in range(2))
        assert first == second


@compiling
@pytest.mark.parametrize("seed", range(12))
def test_random_regions_compile_without_spills(seed):
    spec, *_ = random_region(seed)
    made = to_cubin(ptx(spec), "kernel", HOPPER)
    entries = {f"kernel{entry.suffix}" for entry in region_kernel(spec, HOPPER, "kernel").entries}
    if made.code:
        assert {r.entry for r in made.resources} == entries
        assert all(r.spill_stores == r.spill_loads == 0 for r in made.resources)


@compiling
@pytest.mark.parametrize("dtype", ["f32", "f64", "i8", "u16", "i64", "bool"])
def test_every_operator_of_a_type_compiles_in_one_kernel(dtype):
    inputs = (dtype, dtype, dtype, "bool")
    loads = tuple(Load(k, (1,)) for k in range(4))
    found = []
    for name, info in sorted(OPS.items()):
        result = "bool" if name in COMPARISONS else dtype
        op = Op(name, (3, 0, 1) if name == "where" else tuple(range(info.arity)), result)
        alone = RegionSpec((P(0),), inputs, (*loads, op), (Store(4, result, (1,)),), params=1)
        try:
            region_kernel(alone, HOPPER, "kernel")
        except ValueError:
            continue  # the type has no such operator
        found.append(op)
    stores = tuple(Store(4 + k, op.dtype, (1,)) for k, op in enumerate(found))
    spec = RegionSpec((P(0),), inputs, (*loads, *found), stores, params=1)
    assert len(found) > 8
    assert ".visible .entry kernel(" in ptx(spec)


@compiling
def test_neighbours_are_moved_in_words_of_16_bytes():
    text = ptx(chain(P(0), P(1), ["exp"]))
    assert "ld.v4.b32" in text or "ld.global.v4" in text or "ld.v4.u32" in text
    assert "fma.rn.f32" in text
    assert "mad.f32" not in text


def test_kernels_of_hopper_wait_for_the_launch_before_them_and_others_are_not_started_early():
    spec = chain(P(0), P(1), ["exp"])
    early, late = region_kernel(spec, HOPPER, "kernel"), region_kernel(spec, AMPERE, "kernel")
    assert early.source.count("griddepcontrol.wait") == len(early.entries) == 1
    assert all(entry.overlaps for entry in early.entries)
    assert "griddepcontrol" not in late.source
    assert not any(entry.overlaps for entry in late.entries)


def normalized(rows, length):
    """Rows over their sum, times a vector."""
    body = (
        Load(0, (length, 1)),
        Load(1, (0, 1)),
        Reduce("sum", 0),
        Op("div", (0, 2), "f32"),
        Op("mul", (3, 1), "f32"),
    )
    return RegionSpec(
        domain=(rows, length), reduced=(1,), inputs=("f32", "f32"), params=1, body=body,
        outputs=(Store(4, "f32", (length, 1)),),
    )  # fmt: skip


def test_few_rows_fetch_the_operands_of_the_second_pass_before_the_first_one_ends():
    kernel = region_kernel(normalized(P(0), 384), HOPPER, "kernel")
    assert [e.suffix for e in kernel.entries] == ["_few", "_many"]
    early, late = (
        text.index("in1 + (") < text.index("__shfl")
        for text in kernel.source.split('extern "C"')[1:]
    )
    assert early
    assert not late
    for rows, launched in ((128, "_few"), (2048, "_few"), (2049, "_many")):
        grids = {e.suffix: evaluate(e.grid[0], {"p0": rows}) for e in kernel.entries}
        assert [name for name, blocks in grids.items() if blocks] == [launched]
        assert grids[launched] == -(-rows // 4)


def picked(rows, length):
    """Every row times the row of a table that its largest element's position picks."""
    gather = Gather(1, length, length, 3)
    body = (
        Load(0, (length, 1)),
        Reduce("argmax", 0),
        Load(1, (0, 1), 0, (gather,)),
        Op("mul", (0, 2), "f32"),
    )
    return RegionSpec(
        domain=(rows, length), reduced=(1,), inputs=("f32", "f32"), body=body,
        outputs=(Store(3, "f32", (length, 1)),),
    )  # fmt: skip


def test_what_a_reduction_picks_is_loaded_after_it():
    source = region_kernel(picked(8, 64), HOPPER, "kernel").source
    assert source.index("in1 + (") > source.rindex("__shfl")


def test_a_region_that_reduces_nothing_writes_once_a_row():
    spec = RegionSpec(
        domain=(4, 64), reduced=(1,), inputs=("f32",), body=(Load(0, (1, 0)),),
        outputs=(Store(0, "f32", (1, 0)),),
    )  # fmt: skip
    source = region_kernel(spec, HOPPER, "kernel").source
    assert source.count("out0[") == 1
    assert "for (" not in source


def test_exactly_one_form_of_a_reduction_is_launched_for_any_sizes():
    kernel = region_kernel(total(P(0), P(1)), HOPPER, "kernel")
    assert [e.suffix for e in kernel.entries] == ["_warp", "_block", "_shared0", "_shared_end"]
    launched = {}
    for rows, length in ((5, 100), (5, 512), (5, 513), (5, 5000), (5, 1 << 20), (500, 1 << 20)):
        values = {"p0": rows, "p1": length}
        grids = {e.suffix: evaluate(e.grid[0], values) for e in kernel.entries}
        launched[rows, length] = [name for name, blocks in grids.items() if blocks]
        assert all(blocks >= 0 for blocks in grids.values())
        bytes_ = evaluate(kernel.workspace, values)
        assert (bytes_ > 0) == ("_shared0" in launched[rows, length])
    assert launched == {
        (5, 100): ["_warp"],
        (5, 512): ["_warp"],
        (5, 513): ["_block"],
        (5, 5000): ["_block"],
        (5, 1 << 20): ["_shared0", "_shared_end"],
        (500, 1 << 20): ["_block"],
    }
