"""Artifacts with several precisions: one copy of the weights, and the error of each slice."""

import json
import zipfile

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from support.contract_model import layered_model, layered_samples

import tilewright
from tilewright.compiler.errors import UserError
from tilewright.compiler.options import Options, check_options
from tilewright.compiler.samples import HELD_OUT
from tilewright.runtime import TargetError
from tilewright.tools.cli.exits import run

SAMPLES = layered_samples(8, 200)
HELD = SAMPLES[HELD_OUT - 1 :: HELD_OUT]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("slices")
    onnx.save(layered_model(gain=0.05), path / "layers.onnx")
    np.savez(path / "samples.npz", x=SAMPLES)
    return path


@pytest.fixture(scope="module")
def sliced(files):
    """The artifact and its record."""
    path = files / "sliced.tw"
    found = tilewright.compile(
        files / "layers.onnx", path, calibrate=str(files / "samples.npz"), slices=(8, 4), jobs=0
    )
    return path, found.slices


def measured(files, path, **options):
    """The relative L2 error of an artifact on the held-out samples, by ONNX Runtime."""
    reference = ort.InferenceSession(files / "layers.onnx", providers=["CPUExecutionProvider"])
    off = whole = 0.0
    with tilewright.load(path, threads=1, **options) as session:
        for x in HELD:
            (want,), (got,) = (s.run(None, {"x": x}) for s in (reference, session))
            off += float(np.sum((got.astype(np.float64) - want) ** 2))
            whole += float(np.sum(want.astype(np.float64) ** 2))
    return np.sqrt(off / whole)


def entries(path):
    with zipfile.ZipFile(path) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def test_both_slices_make_the_error_that_was_measured(files, sliced):
    path, record = sliced
    for row in record.slices:
        found = measured(files, path, slice=row.bits)
        assert found == pytest.approx(row.measured[0], rel=1e-3)
        assert row.predicted[0] == pytest.approx(row.measured[0], rel=0.5)
    eight, four = (row.measured[0] for row in record.slices)
    assert measured(files, path) == pytest.approx(eight, rel=1e-3)
    assert eight < four / 2.5


def test_the_weights_are_there_once(files, sliced):
    """8 bits a code, 3 bytes a group and panels of 32 columns; nothing for the second slice."""
    sizes = entries(sliced[0])
    # Two layers of 96 x 128 (padded to 128 rows) and 128 x 96, groups of 64.
    codes = 2 * (128 * 128 + 128 * 96)
    groups = 2 * 3 * (2 * 128 + 2 * 96)
    assert codes + groups <= sizes["weights.safetensors"] <= codes + groups + 2048
    assert {name for name in sizes if name.endswith(".so")} == {
        name for name in sizes if name.endswith((".slice8.so", ".slice4.so"))
    }


def test_the_narrow_slice_is_as_good_as_a_compile_of_its_own(files, sliced):
    path = files / "own.tw"
    tilewright.compile(
        files / "layers.onnx",
        path,
        calibrate=str(files / "samples.npz"),
        max_error=0.5,
        keep=(("*", "w4a8b64-g64"),),
        jobs=0,
    )
    own = measured(files, path)
    assert measured(files, sliced[0], slice=4) <= 1.05 * own
    # A compile of its own has 4.4 bits a weight, the slices together 8.4.
    alone = entries(path)["weights.safetensors"]
    assert entries(sliced[0])["weights.safetensors"] < 2 * alone


def test_sessions_switch_between_slices(sliced):
    path, _ = sliced
    x = {"x": SAMPLES[0]}
    with tilewright.load(path, 1) as wide, tilewright.load(path, 1, slice=4) as narrow:
        first = wide.run(None, x)[0], narrow.run(None, x)[0]
        again = wide.run(None, x)[0], narrow.run(None, x)[0]
        assert wide._file is narrow._file
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(*first)


def test_a_bound_names_the_slices_that_keep_it(files, sliced):
    record = sliced[1]
    eight, four = (row.measured[0] for row in record.slices)
    bound = float(np.sqrt(eight * four))
    with pytest.raises(UserError) as refusal:
        tilewright.compile(
            files / "layers.onnx",
            files / "bound.tw",
            calibrate=str(files / "samples.npz"),
            slices=(8, 4),
            max_error=bound,
            jobs=0,
        )
    lines = str(refusal.value).splitlines()
    assert lines[0] == f"max-error {bound:g}: cannot be kept by slices of 4 bits"
    assert lines[1].startswith(f"  errors on held-out samples: 8 bits {eight:.3g}, 4 bits 0.")
    assert lines[2] == "  try: give --slices 8, or a greater bound"
    assert not (files / "bound.tw").exists()


def test_inspect_shows_them(sliced, capsys):
    path, record = sliced
    assert run(["inspect", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["slices"] == record.document()
    assert sorted(v["slice"] for v in report["variants"]) == [4, 8]
    assert run(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    assert "slices: relative L2 errors against ONNX Runtime in float32, 6 samples" in text
    assert "4 bits" in text
    target = f"{report['variants'][0]['target']}.slice4"
    assert run(["inspect", str(path), "--plan", "--target", target]) == 0
    assert "w4of84" in capsys.readouterr().out


def test_a_slice_that_was_not_compiled(sliced):
    with pytest.raises(TargetError, match="the artifact has no slice of 2 bits"):
        tilewright.load(sliced[0], slice=2)


@pytest.mark.parametrize("bits", [8, 4])
def test_the_command_line_runs_a_slice(files, sliced, bits, capsys):
    path = str(sliced[0])
    np.savez(files / "feeds.npz", x=SAMPLES[0])
    words = ["--inputs", str(files / "feeds.npz"), "--slice", str(bits)]
    assert run(["run", path, *words, "-o", str(files / "out.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["slice"] == bits
    with np.load(files / "out.npz") as found, tilewright.load(path, slice=bits) as session:
        (name,) = found.files
        np.testing.assert_array_equal(found[name], session.run(None, {"x": SAMPLES[0]})[0])
    assert run(["run", path, *words]) == 0
    assert f", {bits} bits], " in capsys.readouterr().out.splitlines()[0]


def test_the_command_line_verifies_a_slice(files, sliced, capsys):
    """Each slice has the error of its own codes."""
    four = next(row.measured[0] for row in sliced[1].slices if row.bits == 4)
    np.savez(files / "feeds.npz", x=HELD[0])
    errors = {}
    for bits in (8, 4):
        words = ["--slice", str(bits), "--inputs", str(files / "feeds.npz"), "--json"]
        words += ["--tolerance", str(3 * four)]
        assert run(["verify", str(files / "layers.onnx"), str(sliced[0]), *words]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["slice"] == bits
        errors[bits] = report["outputs"][0]["ours"]
    assert four / 2 < errors[4] < four * 2
    assert errors[8] < errors[4] / 2


@pytest.mark.parametrize("command", [("run",), ("verify", "layers.onnx"), ("bench",)])
def test_the_command_line_names_the_slices_that_are_there(
    files, sliced, command, capsys, monkeypatch
):
    monkeypatch.chdir(files)
    words = ["--against", "none"] if command == ("bench",) else []
    assert run([*command, "sliced.tw", "--slice", "3", *words]) == 1
    assert capsys.readouterr().err.endswith(
        "sliced.tw: the artifact has no slice of 3 bits\n"
        "  it has slices of 8, 4 bits\n"
        "  try: leave the slice out, or compile the model with --slices\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["verify"], "--slice goes with an ARTIFACT; MODEL is compiled without slices"),
        (["bench"], "--slice goes with an artifact; a model is compiled without slices"),
    ],
)
def test_a_model_has_no_slices(files, words, message, capsys):
    assert run([*words, str(files / "layers.onnx"), "--slice", "4"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"slices": (8, 5), "calibrate": "x"},
            "slices 8,5: are no slices\n  expected some of 2, 3, 4, 6, 8, each once",
        ),
        (
            {"slices": (4, 4), "calibrate": "x"},
            "slices 4,4: are no slices\n  expected some of 2, 3, 4, 6, 8, each once",
        ),
        (
            {"slices": (8, 4)},
            (
                "slices 8,4: need calibration samples\n"
                "  the error of every slice is measured on samples\n  try: give --calibrate SAMPLES"
            ),
        ),
        (
            {"slices": (8, 4), "calibrate": "x", "optimize": "size"},
            (
                "optimize: says nothing about slices\n"
                "  all products have sliced codes, judged by the errors of outputs\n"
                "  try: leave --optimize away"
            ),
        ),
    ],
)
def test_options_that_slices_cannot_have(options, message):
    with pytest.raises(UserError) as refusal:
        check_options(Options(**options))
    assert str(refusal.value) == message


def test_slices_that_are_no_numbers(capsys):
    assert run(["compile", "model.onnx", "--slices", "8,four"]) == 2
    assert "expected numbers as in 8,4, found '8,four'" in capsys.readouterr().err
