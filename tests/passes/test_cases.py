"""Runs the case files: `# RUN: passes`, a graph, then `# EXPECT` and the graph that must come out.

`# EXPECT UNCHANGED` says that nothing happens; `# EXPECT ERROR` is followed by the whole message.
Every case also checks the round trip of the text, that a second run changes nothing, and that the
numbers before and after agree.
"""

from pathlib import Path

import numpy as np
import pytest

from tilewright.backends.reference import evaluate_op, run
from tilewright.compiler.errors import UserError, VerifyError
from tilewright.compiler.ir.core import Graph, walk
from tilewright.compiler.ir.dims import evaluate
from tilewright.compiler.ir.parse import parse_graph
from tilewright.compiler.ir.print import print_graph
from tilewright.compiler.ir.types import DType
from tilewright.compiler.ir.verify import verify
from tilewright.passes.pipelines import run_pipeline
from tilewright.passes.registry import passes, split_passes

FOLDER = Path(__file__).parent
CASES = sorted(FOLDER.glob("*/*.ir"))


def evaluated(op, arrays):
    return evaluate_op(op, arrays, {})


def feeds(graph: Graph, seed: int) -> list[np.ndarray]:
    """Random inputs at small sizes; integers stay in 0..1 so that they can index anything."""
    rng = np.random.default_rng(seed)
    env = {}
    for index, (name, symbol) in enumerate(graph.symbols.items()):
        env[name] = min(symbol.low + 2 + index, symbol.high or 1 << 30)
    arrays = []
    for value in graph.inputs:
        shape = tuple(evaluate(d, env) for d in value.shape)
        dtype = value.dtype.numpy
        if value.dtype.is_float:
            arrays.append(rng.standard_normal(shape).astype(dtype))
        else:
            arrays.append(rng.integers(0, 2, shape).astype(dtype))
    return arrays


def assert_same_numbers(before: Graph, after: Graph) -> None:
    given = feeds(before, seed=7)
    # Roundings to f16 may be left out.
    halves = any(v.dtype == DType.F16 for op in walk(before.ops) for v in op.results)
    rtol, atol = (5e-3, 5e-3) if halves else (2e-5, 2e-6)
    for index, (want, got) in enumerate(zip(run(before, given), run(after, given), strict=True)):
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol, atol, err_msg=f"output {index}")


@pytest.mark.parametrize("path", CASES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_case(path: Path, update_golden: bool) -> None:
    head, marker, expected = path.read_text().partition("# EXPECT")
    assert head.startswith("# RUN: "), f"{path} must start with '# RUN: passes'"
    names = split_passes(head.splitlines()[0].removeprefix("# RUN: "))
    kind, _, expected = expected.partition("\n")
    if kind.strip() == "ERROR":
        with pytest.raises((UserError, VerifyError)) as error:
            run_pipeline(parse_graph(head, path.name), names, evaluate=evaluated)
        assert str(error.value).strip() == expected.strip()
        return
    before = parse_graph(head, path.name)
    verify(before)
    text = print_graph(before)
    assert print_graph(parse_graph(text, weights=before.weights)) == text
    after = run_pipeline(before, names, evaluate=evaluated)
    found = print_graph(after)
    assert print_graph(parse_graph(found, weights=after.weights)) == found
    again = run_pipeline(after, names, evaluate=evaluated)
    assert print_graph(again) == found, "the pass is not idempotent"
    assert_same_numbers(before, after)
    if update_golden:
        marker, expected = "# EXPECT", f"{found}"
        if found == text:
            path.write_text(f"{head}{marker} UNCHANGED\n")
        else:
            path.write_text(f"{head}{marker}\n{expected}")
        return
    assert found == (text if kind.strip() == "UNCHANGED" else expected)


def test_every_pass_has_a_case() -> None:
    tested = {p.parent.name for p in CASES}
    assert [n for n in passes() if n.replace("-", "_") not in tested] == []
