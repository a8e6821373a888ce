"""The tool that holds predicted errors beside measured ones."""

import json

import numpy as np
import onnx
import pytest
from support.contract_model import layered_model, layered_samples

from tilewright.tools.validate_errors import Plan, main, summary


def test_random_plans_are_predicted(tmp_path, capsys):
    onnx.save(layered_model(1), tmp_path / "layers.onnx")
    np.savez(tmp_path / "samples.npz", x=layered_samples(8, 40))
    out = tmp_path / "record.json"
    words = [str(tmp_path / "layers.onnx"), "--calibrate", str(tmp_path / "samples.npz")]
    assert main([*words, "--plans", "3", "--output", str(out)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    found = json.loads(out.read_text())
    assert len(found["rows"]) == 3
    for row in found["rows"]:
        assert sum(row["formats"].values()) == 2
        assert row["measured"] / 1.5 < row["predicted"] < row["measured"] * 1.5
    assert len({json.dumps(row["formats"]) for row in found["rows"]}) > 1


def test_how_far_predictions_are_off():
    plans = [Plan({}, 0.1, 0.2), Plan({}, 0.3, 0.3)]
    assert plans[0].off == pytest.approx(2.0)
    assert summary(plans) == "2 plans: off by 2.000 at worst, 1.633 typically"
