"""Reductions of the rows of a product: which of two ways is taken, and that both are right."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from llvmlite import ir
from onnx import TensorProto, helper, numpy_helper
from support.compiled_graph import build, check_graph, random_feeds, run_artifact
from support.launches import check

from tilewright import compile as compile_artifact
from tilewright import load
from tilewright.backends.kernels import readings
from tilewright.backends.kernels.candidates import Candidate, as_matrix, candidates
from tilewright.backends.kernels.f32_matmul.cases import BIAS_RELU_RESIDUAL
from tilewright.backends.kernels.family import Case
from tilewright.backends.kernels.readings import Reading
from tilewright.backends.kernels.reduced_matmul import FAMILY, ReducedMatmulTask
from tilewright.backends.kernels.registry import families
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.jit import compile_module
from tilewright.backends.llvm.lowering import row_reductions
from tilewright.backends.llvm.program import launches
from tilewright.backends.target import TARGETS, Target, runs_here
from tilewright.compiler.formats import formats, named
from tilewright.compiler.ir.parse import parse_graph
from tilewright.runtime.errors import ExecutionError

STRIPED = {name: family for name, family in families().items() if family.strips is not None}
KINDS = ("max", "argmax", "top", "log_sum_exp", "finite_log_sum_exp", "log_probability")


def graph(kind: str, columns: int = 70, last: bool = False) -> str:
    """x [s, 9] times a constant and a bias, reduced."""
    rng = np.random.default_rng(columns)
    w = ", ".join(str(v) for v in rng.integers(-3, 4, 9 * columns) / 4)
    b = ", ".join(str(v) for v in rng.integers(-3, 4, columns) / 4)
    ids = ", %ids" if kind == "log_probability" else ""
    result = {
        "argmax": '%r = reduce_rows %p {kind = "argmax"%} : i64[s]',
        "top": '%r, %q = reduce_rows %p {kind = "top", count = 3} : f32[s, 3], i64[s, 3]',
        "log_probability": ('%r = reduce_rows %p, %ids {kind = "log_probability"} : f32[s, 2]'),
    }.get(kind, f'%r = reduce_rows %p {{kind = "{kind}"}} : f32[s]')
    result = result.replace("%}", ", last = true}" if last else "}")
    given = ", %ids: i64[s, 2]" if ids else ""
    logits = f"f32[s, {columns}]"
    return f"""graph @g(%x: f32[s, 9]{given}) {{
  symbols {{
    s: 0..64 shape(0, 0)
  }}
  weights {{
    @w: f32[9, {columns}] = [{w}]
    @b: f32[{columns}] = [{b}]
  }}
  %w = constant {{name = "w", type = f32[9, {columns}]}} : f32[9, {columns}]
  %b = constant {{name = "b", type = f32[{columns}]}} : f32[{columns}]
  %p = contract %x, %w, [%b] {{spec = "mk,kn->mn"}} body(%acc: {logits}, %v: f32[{columns}]) {{
    %sum = add %acc, %v : {logits}
    yield %sum
  }} : {logits}
  {result}
  return %r{", %q" if kind == "top" else ""}
}}
"""


@dataclass(frozen=True)
class Unknown:
    """A task that no family answers."""

    product: object
    reading: Reading


@pytest.mark.parametrize("way", ["one kernel", "in memory"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_are_right(kind: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "in memory":
        monkeypatch.setattr(row_reductions, "ReducedMatmulTask", Unknown)
    lowered = check_graph(graph(kind), {"s": 5}, {"s": 1}, {"s": 0}, {"s": 33})
    labels = [step.label for step in launches(lowered.state.program.steps)]
    first = "reduced_matmul" if way == "one kernel" else "f32_matmul"
    assert labels == [first, "row_reduction"]


def test_the_last_of_equal_maxima() -> None:
    text = graph("argmax", last=True)
    check_graph(text, feeds=[np.zeros((4, 9), np.float32)])
    check_graph(text, {"s": 4})


def test_the_plan_says_which_way_was_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = build(parse_graph(graph("argmax")), tmp_path / "a.tw")
    assert ("", "argmax of a product that is not stored: predicted faster") in made.state.notes
    monkeypatch.setattr(row_reductions, "ReducedMatmulTask", Unknown)
    alone = build(parse_graph(graph("argmax")), tmp_path / "b.tw")
    assert not alone.state.notes


def test_a_product_with_other_readers_is_stored() -> None:
    text = graph("max").replace("return %r", "return %r, %p")
    lowered = check_graph(text, {"s": 5})
    labels = [step.label for step in launches(lowered.state.program.steps)]
    assert labels == ["f32_matmul", "row_reduction"]


@pytest.mark.parametrize("way", ["one kernel", "in memory"])
def test_ids_out_of_range(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "in memory":
        monkeypatch.setattr(row_reductions, "ReducedMatmulTask", Unknown)
    made = parse_graph(graph("log_probability"))
    build(made, tmp_path / "a.tw")
    x = np.zeros((1, 9), np.float32)
    with load(tmp_path / "a.tw") as session:
        for wrong in (70, -71):
            with pytest.raises(ExecutionError, match="an index is out of range"):
                session.run(None, {"x": x, "ids": np.array([[0, wrong]])})
        session.run(None, {"x": x, "ids": np.array([[-70, 69]])})


@pytest.mark.parametrize("kind", KINDS)
def test_threads_change_no_bits(kind: str, tmp_path: Path) -> None:
    made = parse_graph(graph(kind, columns=1500))
    build(made, tmp_path / "a.tw")
    feeds = random_feeds(made, {"s": 40}, special=False)
    one, two = (run_artifact(tmp_path / "a.tw", made, feeds, threads=t) for t in (1, 2))
    for a, b in zip(one, two, strict=True):
        assert a.tobytes() == b.tobytes()


def answers(target: Target) -> dict[str, Candidate]:
    """One spec of every kernel of products that is called for strips."""
    task = ReducedMatmulTask(MatmulTask(64, 200, BIAS_RELU_RESIDUAL), Reading("log_sum_exp"))
    found = candidates(task, target, 1e-2, frozenset(formats()))
    return {f"{c.spec.family.name}-{c.numerics}": c for c in found if c.spec.width == 2}


@pytest.mark.parametrize("row", ["x86-64-v3", "x86-64-v4", "sapphirerapids"])
def test_kernels_of_every_format_are_called_for_strips(row: str) -> None:
    target = TARGETS[row]
    found = answers(target)
    names = {c.spec.family.name for c in found.values()}
    assert {"f32_matmul", "grouped_matmul", "int8_scaled_matmul"} <= names
    if row == "sapphirerapids":
        assert names == set(STRIPED) - {"f16_matmul"}
    if not runs_here(target):
        pytest.skip(f"{row} code does not run on this machine")
    few = {name: c for i, (name, c) in enumerate(found.items()) if i % 6 == 0 or "f32" in name}
    module = ir.Module("strips")
    for i, candidate in enumerate(few.values()):
        FAMILY.emit(module, candidate.spec, target, f"kernel{i}")
    library = compile_module(module, target)
    for i, (name, candidate) in enumerate(few.items()):
        for m in (1, 40):
            check(FAMILY, case(candidate, m, name), library, f"kernel{i}", at_end=True)


def case(candidate: Candidate, m: int, name: str) -> Case:
    """Rows by weights in a format; expectations by its family's own reference."""
    spec = candidate.spec
    k, n = 64, 200
    rng = np.random.default_rng(m)
    a = rng.standard_normal((m, k)).astype(np.float32)
    b = rng.standard_normal((k, n)).astype(np.float32)
    extras, strides = [], []
    for extra in spec.epilogue.extras:
        shape = {"scalar": (1,), "row": (n,), "col": (m, 1), "full": (m, n)}[extra.index]
        extras.append(rng.standard_normal(shape).astype(np.float32))
        strides += {"col": [1], "full": [n]}.get(extra.index, [])
    dims = (m, k, n, *strides)
    packed = candidate.pack(b)
    (product,) = spec.family.reference(spec.product, (a, packed, *extras), dims)
    expected = readings.parts(spec.reading, product, spec.part)
    loose = spec.family.name in ("bf16_matmul",) or candidate.format
    return Case(
        label=f"{name}-{m}",
        spec=spec,
        args=(a, packed, *extras),
        results=(np.zeros(expected.shape, np.float32),),
        dims=dims,
        expected=(expected,),
        rtol=2e-2 if loose else 1e-4,
        atol=2e-2 if loose else 1e-4,
    )


@pytest.mark.parametrize("name", STRIPED)
def test_panels_are_products_of_their_own(name: str) -> None:
    family = STRIPED[name]
    assert family.candidates is not None
    assert family.strips is not None
    assert family.pack is not None
    weights = np.random.default_rng(1).standard_normal((96, 200)).astype(np.float16)
    weights = weights.astype(np.float32)
    target = TARGETS["sapphirerapids"]
    specs = [s for s in family.candidates(MatmulTask(96, 200), target) if family.strips(s)]
    assert specs or name == "f16_matmul"
    for spec in specs:
        candidate = Candidate(family, spec)
        whole = candidate.pack(weights).reshape(-1).view(np.uint8)
        size = len(whole) // 7
        encoded = named(candidate.format).encode(as_matrix(weights)) if candidate.format else None
        for first, last in ((0, 2), (2, 5), (5, 7)):
            columns = slice(32 * first, min(32 * last, 200))
            part = weights[:, columns]
            own = replace(spec, n=part.shape[1])
            given = part if encoded is None else named(candidate.format).encode(part)
            packed = family.pack(given, own).reshape(-1).view(np.uint8)
            assert packed.tobytes() == whole[size * first : size * last].tobytes(), spec


@pytest.mark.slow
def test_a_contract_chooses_a_format_for_what_is_not_stored(tmp_path: Path) -> None:
    w = np.random.default_rng(0).standard_normal((64, 320)).astype(np.float32) / 8
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["logits"], name="head"),
        helper.make_node("ReduceLogSumExp", ["logits", "last"], ["y"], name="sum", keepdims=0),
    ]
    weights = {"w": w, "last": np.array([-1])}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "head",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 64])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows"])],
            [numpy_helper.from_array(a, n) for n, a in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.save(model, tmp_path / "head.onnx")
    samples = tmp_path / "samples"
    samples.mkdir()
    for i in range(8):
        x = np.random.default_rng(i).standard_normal((32, 64)).astype(np.float32)
        np.savez(samples / f"{i}.npz", x=x)
    made = tmp_path / "head.tw"
    compile_artifact(
        tmp_path / "head.onnx", made, target="x86-64-v4", calibrate=samples, max_error=0.02
    )
    with zipfile.ZipFile(made) as entries:
        plan = json.loads(entries.read("plan.json"))["variants"]
    (variant,) = plan.values() if isinstance(plan, dict) else plan
    (fork,) = variant["selection"]["forks"]
    assert fork["ways"][0]["launches"] == [["head"]]
    assert variant["formats"]["head"].startswith("w")
