"""Fisher information that does not fit a model: the whole message, nothing written."""

import numpy as np
import onnx
import pytest
from support.command_line import refused
from support.contract_model import layered_model, layered_samples

HELD = ("--calibrate", "samples.npz", "--max-error", "0.01", "--fisher", "fisher.npz")
SHAPE = np.ones((96, 128), np.float32)

WRONG = {
    "unknown": (
        {"u00": SHAPE},
        "fisher.npz, array 'u00': the model has no such initializer\n  try: did you mean 'u0'?",
    ),
    "transposed": (
        {"u0": SHAPE.T},
        (
            "fisher.npz, array 'u0': has the wrong shape\n"
            "  expected [96, 128], or [96] for its input channels, found [128, 96]"
        ),
    ),
    "by output": (
        {"d1": np.ones(96)},
        (
            "fisher.npz, array 'd1': has the wrong shape\n"
            "  expected [128, 96], or [128] for its input channels, found [96]"
        ),
    ),
    "not finite": (
        {"u0": np.where(np.arange(128) == 3, np.nan, SHAPE)},
        "fisher.npz, array 'u0': has infinite or NaN values",
    ),
    "negative": (
        {"u0": SHAPE, "d0": np.full(128, -0.25)},
        (
            "fisher.npz, array 'd0': has negative values\n"
            "  expected means of squared gradients, found -0.25"
        ),
    ),
    "no numbers": (
        {"u0": np.full(96, "much")},
        "fisher.npz, array 'u0': is no Fisher information\n  expected numbers, found <U4",
    ),
    "nothing": (
        {},
        "fisher.npz: has no arrays\n  try: write an array for every weight with numpy.savez",
    ),
    "of no product": (
        {"bias": np.ones(96)},
        (
            "fisher.npz: weighs no product of the model\n"
            "  found bias\n"
            "  try: products multiply with d0, d1, u0"
        ),
    ),
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """layers.onnx, with an initializer that no product reads, and its samples."""
    monkeypatch.chdir(tmp_path)
    model = layered_model()
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(96, np.float32), "bias"))
    node = onnx.helper.make_node("Add", ["x", "bias"], ["moved"], name="moves")
    model.graph.node.insert(0, node)
    for other in model.graph.node[1:]:
        other.input[:] = ["moved" if name == "x" else name for name in other.input]
    onnx.save(model, "layers.onnx")
    np.savez("samples.npz", x=layered_samples(2, 8))


def refusal(capsys, *words):
    return refused(capsys, "compile", "layers.onnx", "-o", "out.tw", "--jobs", "1", *words)


@pytest.mark.parametrize("case", WRONG)
def test_arrays_that_do_not_fit(capsys, files, case):
    arrays, message = WRONG[case]
    np.savez("fisher.npz", **arrays)
    assert refusal(capsys, *HELD) == message


def test_a_file_that_is_not_there(capsys, files):
    assert refusal(capsys, *HELD) == (
        "fisher.npz: cannot be read\n"
        "  the system says: No such file or directory\n"
        "  try: write an array for every weight with numpy.savez"
    )


def test_it_weighs_what_is_calibrated(capsys, files):
    assert refusal(capsys, "--fisher", "fisher.npz") == (
        "fisher: needs calibration samples\n"
        "  formats are chosen by errors that are measured on samples\n"
        "  try: give --calibrate SAMPLES"
    )
    words = ("--fisher", "fisher.npz", "--calibrate", "samples.npz", "--slices", "8,4")
    assert refusal(capsys, *words) == (
        "fisher: says nothing about slices\n"
        "  all products have sliced codes, judged by the errors of outputs\n"
        "  try: leave --fisher away"
    )
