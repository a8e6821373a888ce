"""The table of structures at equal bytes, on models whose structure is known."""

import json

import numpy as np
import onnx
import pytest
from support.contract_model import layered_model, layered_samples
from support.draft_graph import Draft

from tilewright.backends import reference
from tilewright.compiler.formats import Inputs
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.nn import LayerNorm, RmsNorm
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.weights import from_array
from tilewright.passes.quantization.instrument import READ, showing
from tilewright.passes.quantization.sites import Product, sites
from tilewright.tools.bench.replaced_weights import Model, judged
from tilewright.tools.bench.structures import METHODS
from tilewright.tools.bench.whole_models import slicing, value_bits
from tilewright.tools.bench_structure import BUDGETS, main

RANDOM = np.random.default_rng(12)
WIDTH, KEPT = 32, 8


def inputs_of(x):
    x = x.astype(np.float32)
    return Inputs(x.T @ x.astype(np.float64), len(x), len(x), np.abs(x).max(axis=0), x)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", BUDGETS)
def test_methods_keep_to_their_bytes_and_find_what_is_there(method, budget):
    x = RANDOM.standard_normal((300, 10)) @ RANDOM.standard_normal((10, 128))
    w = RANDOM.standard_normal((128, 192)).astype(np.float32)
    size = BUDGETS[budget].bytes(*w.shape)
    made = METHODS[method](w, inputs_of(x), size)
    if made is None:
        # No information; no rank of 8 beside 7 bits; no blocks beside the core.
        assert method in ("FWSVD", "LQ") or (method, budget) == ("ARMOR", 5)
        return
    assert 0 < made.bytes <= size
    assert made.weights.shape == w.shape
    off = np.linalg.norm(x @ (made.weights - w)) / np.linalg.norm(x @ w)
    if method in ("metric SVD", "BLAST"):
        assert off < 0.02  # inputs of 10 dimensions: what is left is rounding to bf16
    else:
        assert off < 1.1


def stream(norm=RmsNorm):
    """Token ids -> a stream of 32 dimensions, of which 8 are used, with one layer and a head."""
    basis = np.linalg.qr(RANDOM.standard_normal((WIDTH, KEPT)))[0]
    draft = Draft(bounds=(1, 50))
    ids = draft.input("ids", "i64", "tokens")

    def weight(k, n, inside=False):
        array = RANDOM.standard_normal((k, KEPT if inside else n))
        return draft.constant((array @ basis.T if inside else array).astype(np.float32))

    def normal(value):
        scale = draft.constant(RANDOM.uniform(0.5, 2, WIDTH).astype(np.float32))
        return draft(norm, x=value, scale=scale, axis=1, eps=1e-6)

    x = draft(Gather, x=weight(20, WIDTH, inside=True), indices=ids, axis=0)
    hidden = draft(Contract, a=normal(x), b=weight(WIDTH, 48), spec="mk,kn->mn", source="up")
    body = draft.region([x.type, x.type], lambda a, b: draft(Add, a=a, b=b))
    x = draft(
        Contract,
        a=hidden,
        b=weight(48, WIDTH, inside=True),
        extras=(x,),
        body=body,
        spec="mk,kn->mn",
        source="down",
    )
    y = draft(Contract, a=normal(x), b=weight(WIDTH, 12), spec="mk,kn->mn", source="head")
    return draft.graph(y)


def sliced(graph, dimensions):
    every = sites(graph)
    found = [site for site in every if isinstance(site, Product)]
    ids = np.arange(20)
    shown = reference.run(showing(graph, every), {"ids": ids})
    names = [*graph.output_names, *(READ.format(i) for i in range(len(every)))]
    read = dict(zip(names, shown, strict=True))
    inputs = {
        site.name: inputs_of(site.matrix(read[READ.format(i)]))
        for i, site in enumerate(every)
        if isinstance(site, Product)
    }
    every_bit = value_bits(found, 0) * sum(site.k * site.n for site in found)
    size = int(every_bit * (dimensions + 0.5) / WIDTH / 8)
    return slicing(graph, graph, every, found, inputs, size)


def test_a_stream_of_few_dimensions_is_sliced_to_them_without_error():
    graph = stream()
    (want,) = reference.run(graph, {"ids": np.arange(20)})
    for dimensions, exact in ((KEPT, True), (KEPT - 2, False)):
        made = sliced(graph, dimensions)
        assert made.how == f"{dimensions} of 32 dimensions"
        assert set(made.weights) == {"down"}
        assert len(made.tables) == 1
        changed = {s.constant: made.weights[s.name] for s in sites(graph) if s.name in made.weights}
        changed |= made.tables
        weights = graph.weights.merged({n: from_array(a) for n, a in changed.items()})
        (got,) = reference.run(graph.replace(weights=weights), {"ids": np.arange(20)})
        off = np.linalg.norm(got - want) / np.linalg.norm(want)
        assert (off < 1e-4) == exact


def test_a_stream_that_is_not_normalized_by_rms_cannot_be_rotated():
    assert sliced(stream(LayerNorm), KEPT) is None


def test_the_table_of_a_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(layered_model(1), "layers.onnx")
    np.savez("samples.npz", x=layered_samples(4, 60))
    np.savez("fisher.npz", u0=np.ones(96), d0=np.ones(128))
    methods = "codes|SVD|FWSVD|metric SVD|2:4|hidden|slicing"
    words = ["layers.onnx", "samples.npz", "--held-out", "samples.npz", "--methods", methods]
    main([*words, "--budgets", "9", "--fisher", "fisher.npz", "--record", "table.json"])
    rows = {row["method"]: row for row in json.loads((tmp_path / "table.json").read_text())["rows"]}
    assert list(rows) == ["f32", "codes", "SVD", "FWSVD", "metric SVD", "2:4", "hidden"]
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
    assert rows["f32"]["error"] == 0
    assert rows["codes"]["how"] == "w8-g64"
    assert all(0 < row["bits"] <= 9.7 for name, row in rows.items() if name != "f32")
    assert rows["codes"]["error"] < 0.02 < rows["metric SVD"]["error"] < rows["SVD"]["error"]
    # Rows of equal information weigh nothing.
    assert rows["FWSVD"]["error"] == pytest.approx(rows["SVD"]["error"], rel=1e-3)


def test_weights_are_replaced_and_tables_alone_where_rows_are_looked_up(tmp_path):
    w = RANDOM.standard_normal((6, 3)).astype(np.float32)
    nodes = [
        onnx.helper.make_node("Gather", ["w", "ids"], ["rows"], axis=0),
        onnx.helper.make_node("MatMul", ["rows", "turned"], ["y"]),
        onnx.helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
    ]
    graph = onnx.helper.make_graph(
        [nodes[0], nodes[2], nodes[1]],
        "tied",
        [onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [1, "t"])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, "t", 6])],
        [onnx.numpy_helper.from_array(w, "w")],
    )
    opsets = [onnx.helper.make_opsetid("", 20)]
    path = tmp_path / "tied.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    model, ids = Model(path), np.array([[0, 3, 5]])
    exact = model.run_with({})({"ids": ids})["y"]
    np.testing.assert_allclose(exact[0], w[ids[0]] @ w.T, rtol=1e-5)
    half = model.run_with({}, {"w": w / 2})
    np.testing.assert_allclose(half({"ids": ids})["y"], exact / 2, rtol=1e-5)
    other = model.run_with({"w": 2 * w})
    np.testing.assert_allclose(other({"ids": ids})["y"], 4 * exact, rtol=1e-5)
    error, loss = judged(half, [{"y": exact}], [{"ids": ids}], tokens=True)
    assert error == pytest.approx(0.5, rel=1e-5)
    logits = exact[0, :2].astype(np.float64) / 2
    chance = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert loss == pytest.approx(np.exp(-np.log(chance[[0, 1], [3, 5]]).mean()), rel=1e-5)
