"""A table that is looked up and multiplied with is stored once, in the product's order."""

from pathlib import Path

import numpy as np
import pytest
from support.compiled_graph import build, check_graph, labels, run_artifact
from support.draft_graph import Draft, tensor, weights

from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.ops import binary, shape
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.control import Fused
from tilewright.runtime.errors import ExecutionError


def model(rows: int, width: int = 24, dtype: str = "i64", fuse: bool = False) -> Graph:
    """Rows of a table for ids, and the scores of x against all rows."""
    d = Draft((0, 512))
    ids, x = d.input("ids", dtype, "n"), d.input("x", "f32", "m", width)
    table = d.constant(weights(rows, width))
    if fuse:
        kinds = (table.type, ids.type, tensor("f32", width))
        region = d.region(
            kinds,
            lambda t, i, s: d(binary.Mul, a=d(shape.Gather, x=t, indices=i, axis=0), b=s),
        )
        found = d(Fused, inputs=(table, ids, d.constant(weights(width, seed=2))), body=region)
    else:
        found = d(shape.Gather, x=table, indices=ids, axis=0)
    scores = d(Contract, a=x, b=table, spec="mk,nk->mn")
    return d.graph(found, scores)


def feeds(ids: list[int], dtype: str = "i64", width: int = 24) -> list[np.ndarray]:
    return [np.array(ids, np.int64 if dtype == "i64" else np.int32), weights(3, width, seed=1)]


@pytest.mark.parametrize(
    ("rows", "dtype"), [(1, "i64"), (32, "i64"), (33, "i64"), (100, "i64"), (33, "i32")]
)
def test_every_row_from_both_ends(rows: int, dtype: str) -> None:
    ids = [*range(rows), *range(-rows, 0)]
    low = check_graph(model(rows, dtype=dtype), feeds=feeds(ids, dtype))
    assert len(low.weights) == 1
    assert labels(low) == ["gather", "matmul"]


def test_lookups_inside_a_fused_region() -> None:
    low = check_graph(model(70, fuse=True), feeds=feeds([0, 69, -70, 33, 32, 31]))
    assert labels(low) == ["fused", "matmul"]


@pytest.mark.parametrize("bad", [33, -34, 64, 1 << 40, -(1 << 40), 2**63 - 1, -(2**63)])
def test_rows_that_do_not_exist_are_an_error(tmp_path: Path, bad: int) -> None:
    graph = model(33)
    if not (tmp_path / "a.tw").exists():
        build(graph, tmp_path / "a.tw")
    with pytest.raises(ExecutionError, match="an index of Gather is out of range"):
        run_artifact(tmp_path / "a.tw", graph, feeds([0, bad, 1]))


def test_a_table_looked_up_along_its_columns_keeps_a_copy_of_its_own() -> None:
    d = Draft()
    ids, x = d.input("ids", "i64", "n"), d.input("x", "f32", "m", 24)
    table = d.constant(weights(40, 24))
    columns = d(shape.Gather, x=table, indices=ids, axis=1)
    scores = d(Contract, a=x, b=table, spec="mk,nk->mn")
    low = check_graph(d.graph(columns, scores), feeds=feeds([0, 5, -1]))
    assert len(low.weights) == 2


def test_ids_of_two_axes_and_a_table_used_whole_too() -> None:
    d = Draft()
    ids, x = d.input("ids", "i64", "n", 2), d.input("x", "f32", "m", 24)
    table = d.constant(weights(40, 24))
    rows = d(shape.Gather, x=table, indices=ids, axis=0)
    scores = d(Contract, a=x, b=table, spec="mk,nk->mn")
    twice = d(binary.Add, a=table, b=table)
    given = [np.array([[0, 39], [-40, 7]]), weights(3, 24, seed=1)]
    check_graph(d.graph(rows, scores, twice), feeds=given)
