"""Low rank weighted by Fisher information, from the file to the artifact."""

import json
import zipfile

import numpy as np
import onnx
import pytest
from support.command_line import call
from support.contract_model import layered_model, layered_samples
from support.draft_graph import Draft

from tilewright.backends import reference
from tilewright.compiler.fisher import read_fisher
from tilewright.compiler.formats import named
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.passes.quantization.calibration import calibrate

RANDOM = np.random.default_rng(8)
INFORMATION = RANDOM.uniform(0, 4, (40, 56)) ** 4


def closed_form(w, rows, rank):
    """Hsu et al., FWSVD: D W = U S V^T, W' = D^-1 U_r S_r V_r^T, with D the root of the sums of
    rows; and the square of the weighted error, the sum of the other S^2."""
    d = np.sqrt(rows)[:, None]
    u, s, v = np.linalg.svd(d * w, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ v[:rank] / d, np.sum(s[rank:] ** 2)


def graph_of(w, spec):
    """y = x w, or in another order of the weight's axes, and what the weight is called."""
    draft = Draft(bounds=(1, 200))
    x = draft.input("x", "f32", "rows", 40)
    constant = draft.constant(np.ascontiguousarray(w))
    y = draft(Contract, a=x, b=constant, spec=spec, source="product")
    return draft.graph(y), constant.op.name


def runner(graph):
    return lambda feeds: dict(zip(graph.output_names, reference.run(graph, feeds), strict=True))


@pytest.mark.parametrize("given", ["elements", "channels", "transposed"])
@pytest.mark.parametrize("name", ["r16-f32", "r16-bf16", "w4-g64+r16"])
def test_the_truncation_is_that_of_the_closed_form(tmp_path, given, name):
    w = RANDOM.standard_normal((40, 56)).astype(np.float32)
    rows = INFORMATION.sum(axis=1)
    array = {"elements": INFORMATION, "channels": rows, "transposed": INFORMATION.T}[given]
    turned = given == "transposed"
    graph, weight = graph_of(w.T if turned else w, "mk,nk->mn" if turned else "mk,kn->mn")
    np.savez(tmp_path / "fisher.npz", **{weight: array})
    fisher = read_fisher(str(tmp_path / "fisher.npz"), graph)
    feeds = [{"x": RANDOM.standard_normal((50, 40)).astype(np.float32)} for _ in range(4)]
    plain = calibrate(graph, feeds, runner)
    found = calibrate(graph, feeds, runner, fisher)
    assert (plain.weighted, found.weighted) == ((), (weight,))
    got = named(name).decode(found.encoded("product", weight, name))
    if name == "w4-g64+r16":
        assert not np.array_equal(got, named(name).decode(plain.encoded("product", weight, name)))
        return
    want, left = closed_form(w.astype(np.float64), rows, 16)
    loose = 3e-6 if name == "r16-f32" else 8e-3  # bf16: half a unit of 8 bits, of both factors
    assert np.linalg.norm(got - want) < loose * np.linalg.norm(want)
    error = np.sum(rows[:, None] * (got.astype(np.float64) - w) ** 2)
    assert error == pytest.approx(left, rel=1e-5 if name == "r16-f32" else 1e-3)
    other = named(name).decode(plain.encoded("product", weight, name))
    assert np.sum(rows[:, None] * (other.astype(np.float64) - w) ** 2) > 1.1 * error


def test_channels_without_information_are_left_out_last(tmp_path):
    w = RANDOM.standard_normal((40, 56)).astype(np.float32)
    rows = np.where(np.arange(40) < 12, 1.0, 0.0)
    graph, weight = graph_of(w, "mk,kn->mn")
    np.savez(tmp_path / "fisher.npz", **{weight: rows})
    fisher = read_fisher(str(tmp_path / "fisher.npz"), graph)
    feeds = [{"x": RANDOM.standard_normal((50, 40)).astype(np.float32)} for _ in range(4)]
    found = calibrate(graph, feeds, runner, fisher)
    got = named("r16-f32").decode(found.encoded("product", weight, "r16-f32"))
    np.testing.assert_allclose(got[:12], w[:12], atol=1e-5)  # rank 16 holds 12 rows exactly


def test_an_artifact_says_for_which_weights_and_which_have_structure(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(layered_model(1), "layers.onnx")
    np.savez("samples.npz", x=layered_samples(2, 8))
    np.savez("fisher.npz", u0=np.ones(96), d0=RANDOM.uniform(size=(128, 96)))
    words = ("layers.onnx", "-o", "out.tw", "--jobs", "1", "--max-error", "10")
    asked = ("--calibrate", "samples.npz", "--fisher", "fisher.npz", "--keep", "*=r32-f32")
    made = call(capsys, "compile", *words, *asked)
    assert made.status == 0, made
    assert "\nlow rank of 2 weights is by their Fisher information\n" in made.out
    assert "structure of weights on " in made.out
    shown = call(capsys, "inspect", "out.tw", "--plan")
    assert "\nstructure of weights\n" in shown.out
    assert "why no other" in shown.out
    with zipfile.ZipFile("out.tw") as archive:
        assert json.loads(archive.read("plan.json"))["contract"]["fisher"] == ["d0", "u0"]
