"""Tables of rotary embeddings are known for what they are, and computed as exactly as they were."""

import numpy as np
import pytest

from tilewright import load
from tilewright.compiler.driver import compile_graph
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.parse import parse_graph
from tilewright.compiler.ir.weights import WeightStore, from_array
from tilewright.passes.pipelines import run_pipeline

TEXT = """graph @g(%x: f32[n, D], %past: f32[past]) {
  symbols {
    n: 1..100 shape(0, 0)
    past: 0..P shape(1, 0)
  }
  %1 = constant {name = "table", type = f32[ROWS, D]} : f32[ROWS, D]
  %2 = slice %1 {starts = [past, 0], steps = [1, 1], shape = [n, D]} : f32[n, D]
  %3 = mul %2, %x : f32[n, D]
  return %3 as "y"
}
"""


def sliced(table: np.ndarray) -> Graph:
    """Some rows of a table, times an input."""
    rows, width = table.shape
    text = TEXT.replace("ROWS", str(rows)).replace("P sh", f"{rows - 100} sh")
    weight = from_array(table)
    text = text.replace("  %1 =", '  weights {\n    @table: TYPE = sha256 "HASH"\n  }\n  %1 =', 1)
    text = text.replace("TYPE", f"f32[{rows}, {width}]").replace("HASH", weight.hash())
    return parse_graph(text.replace("D", str(width)), "g", WeightStore({"table": weight}))


def angles(theta: float, width: int, rows: int, twice: bool = False) -> np.ndarray:
    """As exporters make them: f32 products of positions and frequencies."""
    inverse = (1.0 / theta ** (np.arange(0, width, 2) / width)).astype(np.float32)
    if twice:
        inverse = np.concatenate([inverse, inverse])
    return np.arange(rows, dtype=np.float32)[:, None] * inverse


def computed(table: np.ndarray) -> Graph | None:
    """The graph without its table, None if it is left."""
    before = sliced(table)
    after = run_pipeline(before, ["compute-rotations"])
    left = [op for op in after.ops if isinstance(op, Constant) and op.name == "table"]
    assert (after is before) == bool(left)
    return None if left else after


@pytest.mark.parametrize("function", [np.cos, np.sin])
@pytest.mark.parametrize(
    ("theta", "width", "rows", "twice"),
    [
        (1e4, 64, 4096, False),
        (1e4, 64, 4096, True),
        (1e4, 32, 128, False),
        (5e5, 128, 8192, True),
        (1e6, 128, 2048, False),
        (100.0, 8, 32_000, False),
    ],
)
def test_tables_as_models_have_them(function, theta, width, rows, twice, tmp_path) -> None:
    table = function(angles(theta, width, rows, twice).astype(np.float64)).astype(np.float32)
    graph = computed(table)
    assert graph is not None
    compile_graph(graph, tmp_path / "g.tw")
    session = load(tmp_path / "g.tw", threads=1)
    ones = np.ones((100, table.shape[1]), np.float32)
    for past in (0, 1, 27, rows - 100):
        (found,) = session.run(None, {"x": ones, "past": np.zeros(past, np.float32)})
        wanted = table[past : past + 100].astype(np.float64)
        assert np.abs(found - wanted).max() <= 2.0**-23 + 2.0**-24


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t * np.float32(1.1),  # scaled, as YaRN's
        lambda t: t + np.eye(*t.shape, k=-9, dtype=np.float32) * np.float32(1e-6),
        lambda t: np.where(t == t[40, 3], np.nan, t),
        lambda t: t[::-1].copy(),
        lambda t: np.cumsum(t, axis=0, dtype=np.float32) / np.float32(len(t)),
        lambda t: np.cos(np.arange(len(t))[:, None] ** 2 * t[1]).astype(np.float32),
    ],
)
def test_other_tables_are_left(change) -> None:
    table = np.cos(angles(1e4, 16, 512).astype(np.float64)).astype(np.float32)
    assert computed(table) is not None
    assert computed(change(table)) is None


def test_a_table_of_ones_is_a_cosine_of_nothing() -> None:
    """Frequency 0, as of channels that are not rotated."""
    table = np.ones((256, 4), np.float32)
    table[:, 1] = np.cos(np.arange(256, dtype=np.float32) * np.float32(0.5))
    assert computed(table) is not None
