"""Error contracts from the command line to what the artifact computes."""

import json
import zipfile
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from support.contract_model import layered_model, layered_samples

import tilewright
from tilewright.backends.llvm import codegen
from tilewright.backends.target import detect
from tilewright.compiler.errors import UserError
from tilewright.compiler.samples import HELD_OUT
from tilewright.tools.cli.exits import run
from tilewright.tools.inspect_errors import worst

SAMPLES = layered_samples(8, 40)
HELD = SAMPLES[HELD_OUT - 1 :: HELD_OUT]
CODES = "w8a8-sym"


@pytest.fixture(scope="module", autouse=True)
def _kernels_once():
    """Equal kernels of the compiles of this module are compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codegen, "compile_kernel", cache(codegen.compile_kernel))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("contract")
    onnx.save(layered_model(), path / "layers.onnx")
    np.savez(path / "samples.npz", x=SAMPLES)
    return path


def plan_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("plan.json"))


def measured(files, path):
    """The relative L2 error of an artifact on the held-out samples, by ONNX Runtime."""
    reference = ort.InferenceSession(files / "layers.onnx", providers=["CPUExecutionProvider"])
    off = whole = 0.0
    with tilewright.load(path, threads=1) as session:
        for x in HELD:
            (want,), (got,) = (s.run(None, {"x": x}) for s in (reference, session))
            off += float(np.sum((got.astype(np.float64) - want) ** 2))
            whole += float(np.sum(want.astype(np.float64) ** 2))
    return np.sqrt(off / whole)


def compiled(files, name, **options):
    given = {"calibrate": str(files / "samples.npz"), "max_error": 0.1, "jobs": 0, **options}
    tilewright.compile(files / "layers.onnx", files / name, **given)
    return files / name


@pytest.fixture(scope="module")
def coded(files):
    """All weights and inputs in 8 bits."""
    return compiled(files, "coded.tw", keep=(("*", CODES),))


def test_the_contract_says_what_is_so(files, coded):
    contract = plan_of(coded)["contract"]
    assert contract["bound"] == 0.1
    assert contract["outputs"] == ["y"]
    assert contract["reference"] == "ONNX Runtime in float32"
    assert contract["samples"] == {"calibration": 6, "held_out": 2}
    assert contract["keep"] == [["*", CODES]]
    assert contract["rounds"][contract["chosen_round"]]["kept"]
    (error,) = contract["measured"]
    assert error == pytest.approx(measured(files, coded), rel=1e-3)
    (predicted,) = contract["predicted"]
    assert error / 1.5 < predicted < error * 1.5
    variant = plan_of(coded)["variants"][detect().name]
    assert set(variant["formats"].values()) == {CODES}
    assert variant["selection"]["numerics"][CODES]["operations"] == 4


def test_the_costliest_operation_is_what_it_is_said_to_be(files, coded):
    """Kept in bf16 with all others as they are it gives what was said; another gives less."""
    selection = plan_of(coded)["variants"][detect().name]["selection"]
    claim = worst(selection)
    node = claim["source"].split(", ")[0]
    assert claim["instead"]["numerics"] == "bf16"
    keep = ((node, "bf16"), ("*", CODES))
    better = compiled(files, "better.tw", keep=keep)
    error = measured(files, better)
    assert claim["instead"]["model_error"] / 1.3 < error < claim["instead"]["model_error"] * 1.3
    before = plan_of(coded)["variants"][detect().name]["selection"]["numerics"]
    after = plan_of(better)["variants"][detect().name]["selection"]["numerics"]
    grown = sum(r["weight_bytes"] for r in after.values()) - before[CODES]["weight_bytes"]
    assert grown == claim["instead"]["weight_bytes"]
    other = next(n for n in ("up0", "down1", "down0") if n != node)
    less = compiled(files, "less.tw", keep=((other, "bf16"), ("*", CODES)))
    assert measured(files, less) > error


def test_an_edited_plan_is_followed_and_can_be_measured(files, coded):
    plan = plan_of(coded)
    formats = plan["variants"][detect().name]["formats"]
    first = next(iter(formats))
    formats[first] = "f32"
    (files / "plan.json").write_text(json.dumps(plan))
    path = compiled(files, "edited.tw", plan=str(files / "plan.json"))
    made = plan_of(path)
    assert made["variants"][detect().name]["formats"] == formats
    assert made["contract"]["measured"] == [pytest.approx(measured(files, path), rel=1e-3)]
    with pytest.raises(UserError, match=r"max-error 0\.001: cannot be kept"):
        compiled(files, "no.tw", plan=str(files / "plan.json"), max_error=0.001)
    assert not (files / "no.tw").exists()


def test_a_choice_is_free_but_keeps_the_bound(files, capsys):
    path = compiled(files, "free.tw", max_error=0.004)
    assert measured(files, path) <= 0.004
    capsys.readouterr()
    assert run(["inspect", str(path), "--explain", "worst", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    chosen = plan_of(path)["variants"][detect().name]["formats"]
    assert document["worst"]["numerics"] == chosen[document["worst"]["source"]]
    assert {row["format"] for row in document["formats"]} >= {"bf16", "f32", CODES}


def test_a_model_in_float16_is_calibrated(tmp_path):
    model = layered_model(1)
    for tensor in list(model.graph.initializer):
        half = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    onnx.save(model, tmp_path / "layers.onnx")
    np.savez(tmp_path / "samples.npz", x=SAMPLES.astype(np.float16))
    contract = plan_of(compiled(tmp_path, "half.tw", keep=(("*", CODES),)))["contract"]
    ((predicted,), (error,)) = contract["predicted"], contract["measured"]
    assert 0.005 < error < 0.1
    assert error / 1.5 < predicted < error * 1.5


def test_a_metric_decides(files, monkeypatch, tmp_path):
    """The metric is the mean of |y|, which rounding changes."""
    module = tmp_path / "contract_metric.py"
    module.write_text(
        "import numpy as np\n"
        "def size(run, samples):\n"
        "    return float(np.mean([np.abs(run(feeds)['y']).mean() for feeds in samples]))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = compiled(files, "metric.tw", metric="contract_metric:size", max_error=1e-2)
    contract = plan_of(path)["contract"]
    assert contract["metric"] == "contract_metric:size"
    assert contract["change"] <= 1e-2
    assert contract["rounds"][contract["chosen_round"]]["change"] == pytest.approx(
        contract["change"], rel=1e-3
    )
