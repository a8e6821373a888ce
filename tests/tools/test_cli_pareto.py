"""`tilewright pareto`: points, which of them others beat, and the picture."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import onnx
from support.command_line import call, refused
from support.contract_model import layered_model, layered_samples

from tilewright.tools.cli.pareto import mark, numbers
from tilewright.tools.front_picture import picture


def point(error, size, time, objective="latency"):
    return {
        "bound": 0.1,
        "optimize": objective,
        "artifact": "a.tw",
        "error": error,
        "predicted": error,
        "bytes": size,
        "milliseconds": time,
    }


def test_a_point_is_dominated_by_one_that_is_nowhere_worse():
    points = [point(1e-3, 100, 2.0), point(1e-3, 90, 2.0), point(1e-2, 90, 1.0)]
    points.append({"artifact": None, "bound": 0, "optimize": "size", "refusal": "x"})
    mark(points)
    assert [p.get("dominated") for p in points] == [True, False, False, None]


def test_the_picture_is_svg_with_a_circle_a_point():
    points = [point(1e-3, 100, 2.0), point(0.0, 25, 1.0, "size")]
    mark(points)
    root = ET.fromstring(picture("a < b", points))
    circles = [e for e in root if e.tag.endswith("circle") and len(e)]
    assert len(circles) == 2
    assert float(circles[0].get("r")) == 2 * float(circles[1].get("r"))
    assert float(circles[0].get("cy")) < float(circles[1].get("cy"))
    assert "a &lt; b" in picture("a < b", [])


def test_bounds_are_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert numbers("0.1,0.01") == [0.01, 0.1]
    words = ("pareto", "m.onnx", "--calibrate", "s.npz", "-o", "out", "--bounds", "0.1,x")
    assert refused(capsys, *words) == (
        "--bounds: are no error bounds\n"
        "  expected numbers of 0 or more with commas between, found '0.1,x'"
    )
    assert not list(tmp_path.iterdir())


def test_a_front(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(layered_model(1), "layers.onnx")
    np.savez("samples.npz", x=layered_samples(4, 16))
    words = ("pareto", "layers.onnx", "--calibrate", "samples.npz", "-o", "out")
    called = call(capsys, *words, "--bounds", "0.000000001,0.05", "--jobs", "1", "--json")
    assert called.status == 0, called.err
    assert json.loads((tmp_path / "out" / "front.json").read_text()) == called.document
    points = called.document["points"]
    assert [(p["bound"], p["optimize"]) for p in points] == [
        (b, o) for b in (1e-9, 0.05) for o in ("latency", "size")
    ]
    refusals = [p for p in points if p["artifact"] is None]
    assert all("error of" in p["refusal"] or "predicted" in p["refusal"] for p in refusals)
    small = points[-1]
    assert small["error"] <= 0.05
    assert small["bytes"] == (tmp_path / "out" / small["artifact"]).stat().st_size
    ET.fromstring((tmp_path / "out" / "front.svg").read_text())
