"""Compiles a graph as it is and compares the artifact's results with the reference interpreter's.

Kernels are generated in this process and kept, so that a case costs its own kernels and no worker
start. Inputs and outputs lie against inaccessible pages: an access past their ends faults.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np
from support.guarded import Guarded

from tilewright import load
from tilewright.backends import reference
from tilewright.backends.artifact.package import Variant, write_package
from tilewright.backends.llvm import backend, codegen
from tilewright.backends.llvm.backend import Lowered
from tilewright.backends.target import Target, detect
from tilewright.compiler.driver import lower_for
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.dims import evaluate, symbols
from tilewright.compiler.ir.parse import parse_graph
from tilewright.compiler.ir.types import DType
from tilewright.compiler.ir.verify import verify

_compiled = cache(codegen.compile_kernel)


def build(graph: Graph, path: Path, target: Target | None = None) -> Lowered:
    """Write the artifact of `graph` to `path`; the lowered program, to look at its launches."""
    verify(graph)
    lowered, plan = lower_for(graph, target or detect())
    with patch.object(codegen, "compile_kernel", _compiled):
        image, tiers = backend.build(lowered, jobs=0)
    write_package(path, graph.name, [Variant(lowered, image, plan, tiers)], lowered.weights, [])
    return lowered


def random_feeds(
    graph: Graph, env: Mapping[str, int], seed: int = 0, special: bool = True
) -> list[np.ndarray]:
    """Seeded inputs at the symbol values `env`: floats with a few NaN, infinities and zeros if
    `special`; integers in 0..2, so that they can index anything; random booleans."""
    rng = np.random.default_rng(seed)
    arrays = []
    for value in graph.inputs:
        shape = tuple(evaluate(d, env) for d in value.shape)
        if value.dtype.is_float:
            array = rng.standard_normal(shape) * 2
            if special and array.size > 8:
                spots = rng.choice(array.size, 4, replace=False)
                array.reshape(-1)[spots] = [np.nan, np.inf, -np.inf, 0.0]
            arrays.append(array.astype(value.dtype.numpy))
        elif value.dtype == DType.BOOL:
            arrays.append(rng.random(shape) < 0.5)
        else:
            arrays.append(rng.integers(0, 3, shape).astype(value.dtype.numpy))
    return arrays


def run_artifact(
    path: Path,
    graph: Graph,
    feeds: Sequence[np.ndarray],
    shapes: Sequence[tuple[int, ...]] | None = None,
    threads: int = 1,
) -> list[np.ndarray]:
    """The artifact's outputs; those that no data symbol sizes are written against guard pages."""
    guard = Guarded()
    with load(path, threads=threads) as session:
        binding = session.bind()
        for value, array in zip(graph.inputs, feeds, strict=True):
            binding.bind_input(value.name, guard.place(array).reshape(array.shape))
        data = {n for n, s in graph.symbols.items() if s.source[0] == "data"}
        for i, (name, value) in enumerate(zip(graph.output_names, graph.outputs, strict=True)):
            if shapes is not None and not any(symbols(d) & data for d in value.shape):
                empty = np.zeros(shapes[i], value.dtype.numpy)
                binding.bind_output(name, guard.place(empty).reshape(empty.shape))
        return [np.array(x) for x in binding.run()]


def assert_close(got: np.ndarray, want: np.ndarray, what: str, rtol: float, atol: float) -> None:
    """Equal types and shapes; floats within rtol of the tensor's scale; NaN and infinity equal."""
    assert got.dtype == want.dtype, f"{what}: {got.dtype}, not {want.dtype}"
    assert got.shape == want.shape, f"{what}: {got.shape}, not {want.shape}"
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want, err_msg=what)
        return
    wide = want.astype(np.float64)
    finite = np.abs(wide[np.isfinite(wide)])
    scale = float(np.median(finite)) if finite.size else 0.0
    np.testing.assert_allclose(
        got.astype(np.float64), wide, rtol=rtol, atol=atol + rtol * scale, err_msg=what
    )


TOLERANCE = {"float64": 1e-9, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}
"""Relative tolerances: sums in another order, and functions with their few units of error."""


def check_graph(
    graph: Graph | str,
    *envs: Mapping[str, int],
    feeds: Sequence[np.ndarray] | None = None,
    special: bool = True,
    threads: int = 1,
    seed: int = 0,
    target: Target | None = None,
    scale: float = 1.0,
) -> Lowered:
    """Compile `graph` (or its text) and compare with the reference at every `envs` or for `feeds`.

    `scale` multiplies the tolerances. Returns the lowered program.
    """
    if isinstance(graph, str):
        graph = parse_graph(graph)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.tw"
        lowered = build(graph, path, target)
        cases = [list(feeds)] if feeds is not None else []
        cases += [
            random_feeds(graph, env, seed + i, special)
            for i, env in enumerate(envs or ([{}] if feeds is None else []))
        ]
        for given in cases:
            want = reference.run(graph, given)
            got = run_artifact(path, graph, given, [w.shape for w in want], threads)
            for name, g, w in zip(graph.output_names, got, want, strict=True):
                tolerance = scale * TOLERANCE.get(str(w.dtype), 0.0)
                shapes = [a.shape for a in given]
                assert_close(g, w, f"output {name} for {shapes}", tolerance, tolerance)
    return lowered


def labels(lowered: Lowered) -> list[str]:
    """What the launches of a lowered program are called, in order; `matmul`, `batched_matmul`,
    `conv` and `attention` where several kernels could have been chosen, for any weights."""
    state = lowered.state
    chosen = {}
    for question in state.choices.questions:
        task = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(question.task).__name__).lower()
        name = task.removesuffix("_task").removeprefix("half_")
        chosen[question.candidate(state.choices.answers).family.name] = name
    return [chosen.get(launch.label, launch.label) for launch in lowered.launches]
