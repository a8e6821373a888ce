"""The regions that are timed on a GPU compute what their names say."""

import numpy as np
from support.region_oracle import DTYPES, reference

from tilewright.backends.llvm.region.spec import verify
from tilewright.tools.bench_gpu_regions import (
    bias,
    cases,
    chain,
    layer_norm,
    permuted,
    reduced,
    softmax,
)


def computed(case):
    """(operands, first result) by the meaning of the spec."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.normal(size=n).astype(np.float32).astype(DTYPES[dtype])
        for dtype, n in zip(case.spec.inputs, case.inputs, strict=True)
    ]
    return arrays, reference(case.spec, arrays, (), case.results)[0].astype(np.float64)


def test_names_differ_and_specs_keep_the_rules():
    all_cases = cases()
    assert len({case.name for case in all_cases}) == len(all_cases) > 30
    for case in all_cases:
        verify(case.spec)
        assert case.bytes > 0


def test_layer_norm_with_and_without_a_sum_before_it():
    for residual in (False, True):
        (x, g, b, *others), got = computed(layer_norm(3, 8, residual=residual))
        x = sum(others, x).reshape(3, 8).astype(np.float64)
        centred = x - x.mean(1, keepdims=True)
        want = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5) * g + b
        np.testing.assert_allclose(got, want.ravel(), rtol=1e-4, atol=1e-5)


def test_the_others():
    (x,), got = computed(softmax(4, 5))
    e = np.exp(x.reshape(4, 5))
    np.testing.assert_allclose(got.reshape(4, 5), e / e.sum(1, keepdims=True), rtol=1e-5)
    (x, b), got = computed(bias(3, 4))
    np.testing.assert_allclose(got.reshape(3, 4), x.reshape(3, 4) + b, rtol=1e-6)
    (x, y), got = computed(chain("sum", ("add",), 6, lambda f, x, y: x + y, inputs=2))
    np.testing.assert_allclose(got, x + y, rtol=1e-6)
    (x,), got = computed(permuted((2, 3, 4), (2, 0, 1), "f32"))
    assert (got == x.reshape(2, 3, 4).transpose(2, 0, 1).ravel()).all()
    for axis in (0, 1):
        (x,), got = computed(reduced(4, 5, axis, "sum"))
        np.testing.assert_allclose(got, x.reshape(4, 5).sum(axis), rtol=1e-5, atol=1e-6)
        (x,), got = computed(reduced(4, 5, axis, "argmax"))
        assert (got == x.reshape(4, 5).argmax(axis)).all()
