"""What is said of the costliest operation of a real model, checked by doing it.

The models lie in the folder that TILEWRIGHT_MODELS names; the samples are random token ids.
"""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

import tilewright
from tilewright.backends.target import detect
from tilewright.tools.inspect_errors import worst


@pytest.fixture(scope="module")
def minilm():
    folder = os.environ.get("TILEWRIGHT_MODELS")
    if not folder:
        pytest.skip("TILEWRIGHT_MODELS names no folder of models")
    path = Path(folder) / "minilm" / "minilm.onnx"
    if not path.exists():
        pytest.skip(f"there is no {path}")
    return path


def token_ids(folder, count=24, length=48):
    random = np.random.default_rng(1)
    for i in range(count):
        ids = random.integers(1000, 20000, (1, length))
        ones = np.ones_like(ids)
        names = {"input_ids": ids, "attention_mask": ones, "token_type_ids": ones - 1}
        np.savez(folder / f"{i:02}.npz", **names)


def plan_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("plan.json"))


@pytest.mark.slow
def test_the_costliest_operation_of_minilm(minilm, tmp_path):
    samples = tmp_path / "samples"
    samples.mkdir()
    token_ids(samples)
    given = {
        "calibrate": str(samples),
        "max_error": 0.05,
        "typical": {"batch": 1, "seq": 48},
    }
    tilewright.compile(minilm, tmp_path / "chosen.tw", **given)
    plan = plan_of(tmp_path / "chosen.tw")
    variant = plan["variants"][detect().name]
    claim = worst(variant["selection"])
    assert claim["instead"]["numerics"] == "bf16"
    assert claim["instead"]["model_error"] < claim["model_error"]
    variant["formats"][claim["source"]] = "bf16"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    tilewright.compile(minilm, tmp_path / "kept.tw", **given, plan=str(tmp_path / "plan.json"))
    before, after = (plan_of(tmp_path / n)["contract"] for n in ("chosen.tw", "kept.tw"))
    (own,), (other,) = before["measured"], after["measured"]
    said = claim["instead"]["model_error"] / claim["model_error"]
    assert other / own == pytest.approx(said, abs=0.05)
    assert claim["instead"]["model_error"] / 1.3 < other < claim["instead"]["model_error"] * 1.3
