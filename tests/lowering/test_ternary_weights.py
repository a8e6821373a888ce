"""Constants that are ternary as they are: offered kernels that store them so, without an error."""

import numpy as np
import pytest
from support.compiled_graph import check_graph
from support.draft_graph import Draft

from tilewright.backends.target import TARGETS, runs_here
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.ops.contraction import Contract

K, N = 600, 520


def scaled(by_column: bool = True) -> np.ndarray:
    """Ternary [K, N], a scale for each column, or for each row."""
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.01, 1, N if by_column else (K, 1))
    found: np.ndarray = (rng.integers(-1, 2, (K, N)) * scales).astype(np.float32)
    return found


def product(w: np.ndarray, rows: int, turned: bool = False) -> Graph:
    d = Draft()
    spec = "mk,nk->mn" if turned else "mk,kn->mn"
    right = d.constant(np.ascontiguousarray(w.T) if turned else w)
    return d.graph(d(Contract, a=d.input("a", "f32", rows, K), b=right, spec=spec))


def families(low) -> tuple[set[str], str]:
    """Those that are offered, and the one that is taken."""
    (question,) = low.state.choices.questions
    taken = question.candidate(low.state.selection.answers)
    return {c.family.name for c in question.candidates}, taken.family.name


@pytest.mark.parametrize("name", ["x86-64-v3", "sapphirerapids"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_row_by_ternary_weights_takes_their_codes(name: str, turned: bool) -> None:
    if not runs_here(TARGETS[name]):
        pytest.skip(f"{name} code does not run on this machine")
    low = check_graph(product(scaled(), 1, turned), {}, target=TARGETS[name])
    offered, taken = families(low)
    assert "f32_matmul" in offered
    assert taken == "ternary_matmul"


@pytest.mark.parametrize("turned", [False, True])
def test_others_are_not_offered_them(turned: bool) -> None:
    almost = scaled()
    almost[550, 3] = 5.0
    for w in (scaled(by_column=False), almost):
        low = check_graph(product(w, 1, turned), {})
        assert "ternary_matmul" not in families(low)[0]
