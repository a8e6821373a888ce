"""Convolutions as sites: what their pixels see as rows, and the error model on them."""

import numpy as np
import pytest
from support.draft_graph import Draft, tensor

from tilewright.backends import reference
from tilewright.compiler.formats import named
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Conv
from tilewright.compiler.ir.ops.unary import Relu
from tilewright.compiler.ir.weights import from_array
from tilewright.passes.quantization.calibration import calibrate
from tilewright.passes.quantization.instrument import NOISE, READ, disturbed, showing
from tilewright.passes.quantization.sites import PIXELS, Convolution, sites

RANDOM = np.random.default_rng(2)
GEOMETRY = {
    "1d": ((9,), (3,), 4, {}),
    "2d": ((6, 7), (3, 3), 3, {"pads_low": (1, 1), "pads_high": (1, 1)}),
    "3d": ((4, 5, 3), (2, 3, 1), 2, {"pads_low": (1, 0, 0)}),
    "pointwise": ((5, 5), (1, 1), 8, {}),
    "strides": ((9, 11), (3, 2), 3, {"strides": (2, 3), "pads_high": (1, 2)}),
    "dilations": ((9, 11), (3, 2), 3, {"dilations": (2, 4), "pads_low": (2, 1)}),
}


def runner(graph):
    return lambda feeds: dict(zip(graph.output_names, reference.run(graph, feeds), strict=True))


def conv(draft, x, taps, out, source, relu=False, groups=1, scale=0.3, **given):
    rank = len(taps)
    w = RANDOM.standard_normal((*taps, int(x.shape[-1]) // groups, out)) * scale
    fields = {
        "strides": (1,) * rank,
        "pads_low": (0,) * rank,
        "pads_high": (0,) * rank,
        "dilations": (1,) * rank,
        **given,
    }
    w = draft.constant(w.astype(np.float32))
    bare = Conv(x=x, w=w, groups=groups, **fields)
    body = None
    if relu:
        body = draft.region([tensor("f32", *bare.out.shape)], lambda v: draft(Relu, x=v))
    return draft(Conv, x=x, w=w, groups=groups, body=body, source=source, **fields)


@pytest.mark.parametrize("case", GEOMETRY)
def test_rows_times_the_matrix_are_the_convolution(case):
    image, taps, channels, given = GEOMETRY[case]
    draft = Draft(bounds=(1, 8))
    x = draft.input("x", "f32", "n", *image, channels)
    graph = draft.graph(conv(draft, x, taps, 5, "c", **given))
    (site,) = sites(graph)
    assert isinstance(site, Convolution)
    assert (site.k, site.n) == (int(np.prod(taps)) * channels, 5)
    value = RANDOM.standard_normal((3, *image, channels)).astype(np.float32)
    (want,) = reference.run(graph, {"x": value})
    y = site.matrix(value).astype(np.float64) @ site.weights(graph)
    assert site.shape(value) == want.shape
    np.testing.assert_allclose(site.result(y, value), want, 1e-6, 1e-6)


def test_some_pixels_stand_for_many():
    draft = Draft(bounds=(1, 8))
    x = draft.input("x", "f32", 2, 20, 20, 4)
    graph = draft.graph(conv(draft, x, (3, 3), 5, "c"))
    (site,) = sites(graph)
    value = RANDOM.standard_normal((2, 20, 20, 4)).astype(np.float32)
    rows, count = site.sampled(value)
    every = site.matrix(value)
    assert (count, len(rows), len(every)) == (2 * 18 * 18, PIXELS, 2 * 18 * 18)
    places = [np.flatnonzero((every == row).all(axis=1)) for row in rows]
    found = np.concatenate(places)
    assert len(found) == len(np.unique(found)) == PIXELS
    np.testing.assert_array_equal(found, np.sort(found))
    few, whole = site.sampled(value[:1, :5, :5])
    assert (len(few), whole) == (9, 9)


def test_groups_are_no_sites():
    draft = Draft(bounds=(1, 8))
    x = draft.input("x", "f32", "n", 5, 5, 8)
    assert sites(draft.graph(conv(draft, x, (3, 3), 8, "c", groups=8))) == []


def net():
    """Two convolutions that read the same value, their sum, and one behind it."""
    draft = Draft(bounds=(1, 8))
    x = draft.input("x", "f32", "n", 12, 10, 8)
    ones = {"pads_low": (1, 1), "pads_high": (1, 1)}
    a = conv(draft, x, (3, 3), 16, "a", relu=True, scale=0.15, **ones)
    b = conv(draft, x, (3, 3), 16, "b", scale=0.15, **ones)
    h = draft(Add, a=a, b=b)
    return draft.graph(conv(draft, h, (1, 1), 12, "c", relu=True, strides=(2, 2)))


def samples(count):
    random = np.random.default_rng(6)
    return [{"x": random.standard_normal((2, 12, 10, 8)).astype("f4")} for _ in range(count)]


def test_noise_is_added_before_the_epilogue():
    graph = net()
    found = sites(graph)
    (feeds,) = samples(1)
    shown = runner(showing(graph, found))(feeds)
    noises = {
        NOISE.format(i): RANDOM.standard_normal(s.shape(shown[READ.format(i)])).astype("f4")
        for i, s in enumerate(found)
    }
    (got,) = reference.run(disturbed(graph, found), {**feeds, **noises})
    a, b, c = (site.weights(graph) for site in found)
    rows = found[0].matrix(feeds["x"])
    first = np.maximum(rows @ a + noises[NOISE.format(0)].reshape(-1, 16), 0)
    h = first + rows @ b + noises[NOISE.format(1)].reshape(-1, 16)
    last = found[2].matrix(h.reshape(2, 12, 10, 16)) @ c
    want = np.maximum(last + noises[NOISE.format(2)].reshape(-1, 12), 0)
    np.testing.assert_allclose(got, want.reshape(got.shape), 1e-4, 1e-4)


def test_statistics_are_of_the_pixels_that_were_kept():
    graph, given = net(), samples(5)
    calibration = calibrate(graph, given, runner)
    site = next(s for s in sites(graph) if s.name == "a")
    kept = [site.sampled(s["x"])[0].astype(np.float64) for s in given]
    inputs = calibration.inputs["a"]
    assert inputs is calibration.inputs["b"]
    fitted = np.concatenate([kept[i] for i in (0, 1, 2, 4)])
    np.testing.assert_allclose(inputs.gram, fitted.T @ fitted, 1e-4, 1e-3)
    assert (inputs.fitted, inputs.rows) == (4 * PIXELS, 5 * 2 * 12 * 10)
    np.testing.assert_array_equal(inputs.sample, kept[3])


@pytest.mark.parametrize("name", ["w8-sym", "w3-g64"])
def test_the_error_of_one_convolution_is_predicted(name):
    graph, given = net(), samples(12)
    calibration = calibrate(graph, given[:8], runner)
    tried = 0
    for site in sites(graph):
        if not named(name).supports(site.k, site.n):
            continue
        tried += 1
        (predicted,) = calibration.squares(*site.key, name)
        decoded = named(name).decode(calibration.encoded(*site.key, name))
        weight = from_array(decoded.reshape(graph.weights.array(site.constant).shape))
        other = graph.replace(weights=graph.weights.merged({site.constant: weight}))
        off = whole = 0.0
        for feeds in given[8:]:
            (want,), (got,) = reference.run(graph, feeds), reference.run(other, feeds)
            off += float(np.sum((got.astype(np.float64) - want) ** 2))
            whole += float(np.sum(want.astype(np.float64) ** 2))
        measured = np.sqrt(off / whole)
        assert measured / 1.5 < np.sqrt(predicted) < measured * 1.5
    assert tried >= 2
