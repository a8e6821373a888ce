"""Sites, what they read, and the error model, against direct computation."""

import numpy as np
import pytest
from support.draft_graph import Draft, tensor

from tilewright.backends import reference
from tilewright.compiler.formats import formats, named
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.unary import Tanh
from tilewright.compiler.ir.weights import from_array
from tilewright.passes.quantization.calibration import (
    ALIKE,
    MEASURE,
    UNSURE,
    Calibration,
    calibrate,
)
from tilewright.passes.quantization.columns import Columns
from tilewright.passes.quantization.instrument import READ, showing
from tilewright.passes.quantization.sites import sites

RANDOM = np.random.default_rng(5)


def runner(graph):
    return lambda feeds: dict(zip(graph.output_names, reference.run(graph, feeds), strict=True))


def layers(depth=3, width=96):
    """A residual net of `depth` layers with two sites each, the second transposed."""
    draft = Draft(bounds=(1, 200))
    x = draft.input("x", "f32", "rows", width)
    for i in range(depth):
        up = draft.constant((RANDOM.standard_normal((width, 128)) * 0.15).astype(np.float32))
        down = draft.constant((RANDOM.standard_normal((width, 128)) * 0.15).astype(np.float32))
        wide = tensor("f32", "rows", 128)
        body = draft.region([wide], lambda v: draft(Tanh, x=v))
        h = draft(Contract, a=x, b=up, spec="mk,kn->mn", body=body, source=f"up{i}")
        y = draft(Contract, a=down, b=h, spec="nk,mk->mn", source=f"down{i}")
        x = draft(Add, a=x, b=y)
    return draft.graph(x)


def samples(count, width=96, seed=0):
    random = np.random.default_rng(seed)
    scale = np.exp(random.standard_normal(width))
    return [
        {"x": (random.standard_normal((100, width)) * scale).astype(np.float32)}
        for _ in range(count)
    ]


def replaced(graph, changes):
    """`graph` with other weights: by name, f32 arrays of the same shape."""
    made = graph.weights.merged({name: from_array(array) for name, array in changes.items()})
    return graph.replace(weights=made)


def stored(graph, site, name, calibration):
    """The constant of a site as its format gives it back."""
    encoded = calibration.encoded(*site.key, name)
    decoded = named(name).decode(encoded)
    sizes = graph.weights.array(site.constant).transpose(site.axes).shape
    return decoded.reshape(sizes).transpose(np.argsort(site.axes))


def difference(graph, other, feeds):
    """The relative L2 error of one output over samples."""
    off = whole = 0.0
    for sample in feeds:
        (want,), (got,) = reference.run(graph, sample), reference.run(other, sample)
        off += float(np.sum((got.astype(np.float64) - want) ** 2))
        whole += float(np.sum(want.astype(np.float64) ** 2))
    return np.sqrt(off / whole)


def test_sites_see_products_as_matrices():
    graph = layers(1)
    found = sites(graph)
    assert [(s.name, s.k, s.n) for s in found] == [("up0", 96, 128), ("down0", 128, 96)]
    shown = runner(showing(graph, found))(samples(1)[0])
    for i, site in enumerate(found):
        x = site.matrix(shown[READ.format(i)]).astype(np.float64)
        bare = Contract(a=site.op.a, b=site.op.b, spec=site.op.spec)
        operands = [
            graph.weights.array(site.constant) if v is site.w else shown[READ.format(i)]
            for v in (bare.a, bare.b)
        ]
        (want,) = reference.evaluate_op(bare, operands, {"rows": 100})
        got = site.result(x @ site.weights(graph), shown[READ.format(i)])
        # The reference sums in float64 and rounds to f32 once, by half a unit of the last place.
        np.testing.assert_allclose(got, want, rtol=1.01 * 2**-24, atol=1e-12)


def test_statistics_are_those_of_all_rows():
    graph, given = layers(), samples(5)
    calibration = calibrate(graph, given, runner)
    rows = [s["x"].astype(np.float64) for s in given]
    fitted = np.concatenate([rows[i] for i in (0, 1, 2, 4)])
    inputs = calibration.inputs["up0"]
    gram = fitted.T @ fitted
    # Sums of 400 products in f32, in whatever order: N. Higham, Accuracy and stability of
    # numerical algorithms, section 3.1.
    bound = 400 * 2**-24 / (1 - 400 * 2**-24) * (np.abs(fitted).T @ np.abs(fitted))
    np.testing.assert_array_less(np.abs(inputs.gram - gram), bound)
    assert (inputs.fitted, inputs.rows) == (400, 500)
    np.testing.assert_allclose(inputs.absmax, np.abs(np.concatenate(rows)).max(axis=0))
    np.testing.assert_array_equal(inputs.sample, rows[3])


@pytest.mark.parametrize("name", ["w8-sym", "w4-g64", "w3-g64"])
def test_the_error_of_one_site_is_predicted(name):
    graph, given = layers(), samples(12)
    calibration = calibrate(graph, given[:8], runner)
    for site in sites(graph):
        (predicted,) = calibration.squares(*site.key, name)
        other = replaced(graph, {site.constant: stored(graph, site, name, calibration)})
        measured = difference(graph, other, given[8:])
        assert measured / 1.5 < np.sqrt(predicted) < measured * 1.5


def test_squared_errors_of_mixed_choices_add():
    graph, given = layers(), samples(12)
    calibration = calibrate(graph, given[:8], runner)
    names = ["w8-sym", "w8-g64", "w4-g64", "w3-g64", "w2-g64"]
    random = np.random.default_rng(1)
    for _ in range(20):
        chosen = {site: names[random.integers(len(names))] for site in sites(graph)}
        other = replaced(
            graph,
            {s.constant: stored(graph, s, name, calibration) for s, name in chosen.items()},
        )
        predicted = sum(calibration.squares(*s.key, name)[0] for s, name in chosen.items())
        measured = difference(graph, other, given[8:])
        assert measured / 1.5 < np.sqrt(predicted) < measured * 1.5


def test_every_format_and_class_has_a_prediction():
    graph = layers(1)
    calibration = calibrate(graph, samples(4), runner)
    site = sites(graph)[0]
    offered = calibration.formats(*site.key)
    assert offered == {f.name for f in formats().values() if f.supports(96, 128)}
    for name in (*offered, "f32", "bf16x3", "bf16"):
        (squared,) = calibration.squares(*site.key, name)
        assert squared == 0 if name == "f32" else 0 < squared < 1
    assert calibration.squares("elsewhere", "w0", "bf16") is None
    assert calibration.formats("elsewhere", "w0") == frozenset()


def test_rounding_fitted_to_few_rows_is_not_believed():
    """On the rows of its Gram matrix GPTQ's error is far less than on others."""
    graph, given = layers(1), [{"x": s["x"][:20]} for s in samples(12)]
    calibration = calibrate(graph, given[:4], runner)
    site = sites(graph)[0]
    (predicted,) = calibration.squares(*site.key, "w4-g64")
    other = replaced(graph, {site.constant: stored(graph, site, "w4-g64", calibration)})
    measured = difference(graph, other, given[4:])
    assert measured / 1.5 < np.sqrt(predicted) < measured * 1.5


def test_infinite_values_name_the_site():
    graph, given = layers(1), samples(3)
    given[1]["x"][2, 5] = np.inf
    with pytest.raises(ValueError, match="up0 reads infinite or NaN values"):
        calibrate(graph, given, runner)


def test_what_was_not_judged_is_known():
    """Of wide products errors are estimates until they are settled; a floor is below both."""
    draft = Draft(bounds=(1, 200))
    x = draft.input("x", "f32", "rows", 96)
    w = draft.constant((RANDOM.standard_normal((96, 300)) * 0.15).astype(np.float32))
    graph = draft.graph(draft(Contract, a=x, b=w, spec="mk,kn->mn", source="wide"))
    calibration = calibrate(graph, samples(8), runner)
    key = ("wide", "w0")
    assert calibration.basis(*key, "w4-g64") == ""
    assert calibration.basis(*key, "bf16") == "columns"
    (floor,) = calibration.floor(*key, "w4-g64")
    (guess,) = calibration.squares(*key, "w4-g64")
    assert calibration.basis(*key, "w4-g64") == "columns"
    assert calibration.floor(*key, "w4-g64") is None
    assert calibration.settle([(*key, "w4-g64"), (*key, "f32")])
    assert not calibration.settle([(*key, "w4-g64"), (*key, "f32")])
    (real,) = calibration.squares(*key, "w4-g64")
    assert calibration.basis(*key, "w4-g64") == "all"
    assert floor < min(guess, real)
    assert guess == pytest.approx(real, rel=0.3)


@pytest.mark.parametrize("name", ["w3-g64", "w5-g64", "w4-g128"])
def test_formats_of_weights_are_judged_on_few_sites(name, monkeypatch):
    """Up to ALIKE sites by their own columns, others by what was found there; a choice by all."""
    graph = layers(depth=7, width=136)
    calibration = calibrate(graph, samples(4, 136), runner)
    judged = []
    error = Columns.error

    def counting(self, made):
        judged.append(made.name)
        return error(self, made)

    monkeypatch.setattr(Columns, "error", counting)
    monkeypatch.setattr(Calibration, "estimated", lambda self, *key: True)
    keys = list(calibration.sites)
    guessed = [calibration.squares(*key, name)[0] for key in keys]
    assert judged.count(name) == ALIKE < len(keys)
    monkeypatch.undo()
    for key, guess in zip(keys, guessed, strict=True):
        calibration._squares.pop((key[0], name))
        assert calibration.squares(*key, name)[0] == pytest.approx(guess / UNSURE**2, rel=0.5)


def test_formats_that_sites_disagree_on_are_judged_everywhere(monkeypatch):
    graph = layers(depth=6)
    calibration = calibrate(graph, samples(4), runner)
    errors = iter([1.0, 2.0] * 6)
    monkeypatch.setattr(
        Columns, "error", lambda self, made: 1.0 if made.name == MEASURE else next(errors)
    )
    monkeypatch.setattr(Calibration, "estimated", lambda self, *key: True)
    for key in calibration.sites:
        calibration.squares(*key, "w3-g64")
    assert next(errors, None) is None


def test_codes_that_another_format_made_known_settle_no_guess():
    """Of formats with the same codes one is encoded; what some columns said of the other is still a
    guess, which its choice replaces."""
    draft = Draft(bounds=(1, 200))
    x = draft.input("x", "f32", "rows", 128)
    w = (RANDOM.standard_normal((128, 192)) * 0.1).astype(np.float32)
    w[:, np.argsort(np.square(w).sum(axis=0))[-1]] *= 60  # a column that is not among those tried
    y = draft(Contract, a=x, b=draft.constant(w), spec="mk,kn->mn", source="wide")
    calibration = calibrate(draft.graph(y), samples(8, 128), runner)
    ((source, constant),) = calibration.sites
    exact, rounded = "w6-g64", "w6a8b64-g64"
    assert named(rounded).stored == named(exact)
    guess, other = (calibration.squares(source, constant, n)[0] for n in (exact, rounded))
    assert calibration.settle([(source, constant, rounded)])
    assert calibration.squares(source, constant, rounded)[0] > 4 * other
    assert calibration.estimated(source, constant, exact)
    assert calibration.basis(source, constant, exact) == "columns"
    assert calibration.squares(source, constant, exact)[0] == guess
    assert calibration.settle([(source, constant, exact)])
    assert calibration.squares(source, constant, exact)[0] > 4 * guess
    assert not calibration.settle([(source, constant, exact), (source, constant, rounded)])


def test_a_choice_that_was_never_judged_is_settled_though_its_codes_are_known():
    """Passed over by its bits alone, then chosen, after a format with the same codes was encoded:
    its error is not that floor."""
    draft = Draft(bounds=(1, 200))
    x = draft.input("x", "f32", "rows", 128)
    w = (RANDOM.standard_normal((128, 192)) * 0.1).astype(np.float32)
    y = draft(Contract, a=x, b=draft.constant(w), spec="mk,kn->mn", source="wide")
    calibration = calibrate(draft.graph(y), samples(8, 128), runner)
    ((source, constant),) = calibration.sites
    assert calibration.settle([(source, constant, "w5-g64")])
    (floor,) = calibration.floor(source, constant, "w5a8b64-g64")
    assert calibration.basis(source, constant, "w5a8b64-g64") == ""
    assert calibration.settle([(source, constant, "w5a8b64-g64")])
    assert calibration.floor(source, constant, "w5a8b64-g64") is None
    assert calibration.squares(source, constant, "w5a8b64-g64")[0] > 2 * floor
    assert calibration.basis(source, constant, "w5a8b64-g64") == "all"
    assert not calibration.settle([(source, constant, "w5a8b64-g64")])
