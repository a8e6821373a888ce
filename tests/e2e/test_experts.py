"""Mixtures of experts: as exported, and under a contract with a format for every expert."""

import numpy as np
import onnxruntime
import pytest
from support.expert_models import (
    EXPERTS,
    expert_samples,
    gathered_rows,
    gathered_weights,
    masked_experts,
)

from tilewright import compile as compile_model
from tilewright import load
from tilewright.backends.artifact.error_report import operations


def expected(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(masked_experts, marks=pytest.mark.slow),
        gathered_rows,
        pytest.param(gathered_weights, marks=pytest.mark.slow),
    ],
)
def test_all_ways_to_write_experts_give_the_same(tmp_path, made):
    compile_model(made(), tmp_path / "experts.tw", jobs=1)
    session = load(tmp_path / "experts.tw", threads=1)
    for x in (expert_samples(1)[0], expert_samples(1)[0][:1]):
        want = expected(masked_experts(), x)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], want, atol=3e-6)


@pytest.mark.slow
def test_every_expert_has_formats_of_its_own_and_gets_its_rows_alone(tmp_path):
    x = expert_samples(8)
    np.savez(tmp_path / "samples.npz", x=x)
    model, path = gathered_rows(), tmp_path / "experts.tw"
    options = {"max_error": 0.05, "calibrate": str(tmp_path / "samples.npz"), "optimize": "size"}
    made = compile_model(model, path, jobs=1, **options)
    (measured,), (predicted,) = made.contract.measured, made.contract.predicted
    assert measured <= 0.05
    assert measured / 1.5 < predicted < measured * 1.5
    chosen = operations(made.variants[0].state.selection)
    formats = {constant: name for _, constant, name in chosen if constant[:2] in ("up", "do")}
    assert len(formats) == 2 * EXPERTS
    assert {name[0] for name in formats.values()} == {"w"}
    weights = sum(weight.bytes for weight in made.variants[0].weights)
    assert weights < 0.35 * 4 * 2 * EXPERTS * 64 * 96
    session = load(path, threads=1)
    want, got = (
        np.concatenate(parts)
        for parts in zip(
            *[(expected(model, rows), session.run(None, {"x": rows})[0]) for rows in x[3::4]],
            strict=True,
        )
    )
    assert np.linalg.norm(got - want) / np.linalg.norm(want) == pytest.approx(measured, rel=1e-3)
    one = x[0][:1]  # two experts have one row, two have none
    off = np.linalg.norm(session.run(None, {"x": one})[0] - expected(model, one))
    assert off < 0.15 * np.linalg.norm(expected(model, one))
