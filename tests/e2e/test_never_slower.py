"""Promise 3 under an error contract: weight formats are only taken where they are not slower.

The targets have no instructions for products of bytes, so that 8-bit kernels gain little there.
"""

import json
import zipfile

import numpy as np
import onnx
import pytest
from support.contract_model import layered_model, layered_samples

import tilewright
from tilewright.backends.target import resolve_targets, runs_here
from tilewright.backends.trial import interleaved
from tilewright.passes.quantization.losing import SLOWER

WIDTH, ROWS = 384, 64

NOISE = 1.1
"""How much longer medians of equal work take at times, beyond what the compile itself allows."""


@pytest.mark.parametrize("name", ["x86-64-v3", "x86-64-v4"])
def test_a_contract_is_not_slower_than_no_formats(name, tmp_path):
    (target,) = resolve_targets((name,))
    if not runs_here(target):
        pytest.skip(f"this machine cannot run {name}")
    samples = layered_samples(8, ROWS, WIDTH)
    onnx.save(layered_model(1, WIDTH, 0.05), tmp_path / "layers.onnx")
    np.savez(tmp_path / "samples.npz", x=samples)
    given = {"target": name, "max_error": 0.05, "jobs": 0, "typical": {"n": ROWS}}
    plain, kept = tmp_path / "plain.tw", tmp_path / "kept.tw"
    tilewright.compile(tmp_path / "layers.onnx", plain, **given)
    tilewright.compile(
        tmp_path / "layers.onnx", kept, **given, calibrate=str(tmp_path / "samples.npz")
    )
    own, other = interleaved((kept, plain), name, [{"x": x} for x in samples], 1, 0.5)
    assert own.seconds <= SLOWER * NOISE * other.seconds
    with zipfile.ZipFile(kept) as archive:
        contract = json.loads(archive.read("plan.json"))["contract"]
    if timing := contract.get("timing"):
        last = timing[-1]
        assert last["dropped"] or last["milliseconds"] <= SLOWER * last["without_formats"]
