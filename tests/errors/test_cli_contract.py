"""Error contracts that cannot be: the whole message, exit status 1, nothing written."""

import json

import numpy as np
import onnx
import pytest
from onnx import helper
from support.command_line import model_of, refused
from support.contract_model import layered_model, layered_samples

WIDTH = 96


@pytest.fixture
def files(tmp_path, monkeypatch):
    """layers.onnx and its samples in the current folder."""
    monkeypatch.chdir(tmp_path)
    onnx.save(layered_model(), "layers.onnx")
    np.savez("samples.npz", x=layered_samples(4, 8))
    return tmp_path


def refusal(capsys, files, *words):
    before = sorted(p.name for p in files.iterdir())
    message = refused(capsys, "compile", "layers.onnx", "-o", "out.tw", *words)
    assert sorted(p.name for p in files.iterdir()) == before
    return message


NEEDS = (
    "\n  formats are chosen by errors that are measured on samples\n  try: give --calibrate SAMPLES"
)
UNASKED = {
    "checked and rounded": (
        ("--abft", "--calibrate", "samples.npz", "--max-error", "0.01"),
        (
            "max_error: lets products be rounded, which hides corruption\n"
            "  checksums of floats are bounded by the rounding of f32\n"
            "  try: leave --max-error or --abft away"
        ),
    ),
    "checked slices": (
        ("--abft", "--calibrate", "samples.npz", "--slices", "8,4"),
        (
            "slices: lets products be rounded, which hides corruption\n"
            "  checksums of floats are bounded by the rounding of f32\n"
            "  try: leave --slices or --abft away"
        ),
    ),
    "checked plan": (
        ("--abft", "--plan", "plan.json"),
        (
            "plan: lets products be rounded, which hides corruption\n"
            "  checksums of floats are bounded by the rounding of f32\n"
            "  try: leave --plan or --abft away"
        ),
    ),
    "checked on a GPU": (
        ("--abft", "--target", "x86-64-v3,sm_90a"),
        (
            "target 'sm_90a': checks no products\n"
            "  products are checked on CPUs only\n"
            "  try: leave --abft or this target away"
        ),
    ),
    "no bound": (
        ("--calibrate", "samples.npz"),
        (
            "calibrate: there is no error bound\n"
            "  calibration chooses formats by a bound\n"
            "  try: give --max-error 0.01"
        ),
    ),
    "keep": (("--keep", "up0=bf16"), f"keep: needs calibration samples{NEEDS}"),
    "size": (("--optimize", "size"), f"optimize: needs calibration samples{NEEDS}"),
    "metric": (("--metric", "json:loads"), f"metric: needs calibration samples{NEEDS}"),
    "no size": (
        ("--max-size", "0"),
        "max_size: is no size\n  expected a number of bytes of 1 or more, found 0",
    ),
    "too small": (
        ("--max-size", "1K", "--jobs", "1"),
        "max-size 1,024: cannot be kept\n  the smallest choice has 196,608 bytes of packed weights",
    ),
    "halfway": (
        ("--calibrate", "samples.npz", "--max-error", "0.01", "--stop-after", "lower"),
        (
            "calibrate: cannot stop after lower\n"
            "  formats are chosen by measuring whole artifacts\n"
            "  try: leave --calibrate away, or stop after passes"
        ),
    ),
    "no pair": (
        ("--keep", "up0", "--calibrate", "samples.npz", "--max-error", "0.01"),
        "--keep: is no pattern and format\n  expected PATTERN=FORMAT, found 'up0'",
    ),
    "no format": (
        ("--keep", "up0=w8a8-sim", "--calibrate", "samples.npz", "--max-error", "0.01"),
        "--keep up0=w8a8-sim: there is no format 'w8a8-sim'\n  try: did you mean 'w8a8-sym'?",
    ),
    "no operation": (
        ("--keep", "*up7=bf16", "--calibrate", "samples.npz", "--max-error", "0.01"),
        (
            "keep *up7=bf16: no operation that has a choice matches the pattern\n"
            "  try: known: down0, add0, down1, add1, up0, tanh0, up1, tanh1"
        ),
    ),
    "no metric": (
        ("--metric", "json", "--calibrate", "samples.npz", "--max-error", "0.01"),
        "metric: names no function\n  expected module:function, found 'json'",
    ),
    "no function": (
        ("--metric", "json:lods", "--calibrate", "samples.npz", "--max-error", "0.01"),
        "json:lods: module json has no function 'lods'\n  try: did you mean 'loads'?",
    ),
    "elsewhere": (
        ("--target", "neoverse-n1", "--calibrate", "samples.npz", "--max-error", "0.01"),
        (
            "--target neoverse-n1: this machine cannot run it, so the error of its artifact"
            " cannot be measured\n"
            "  it is for aarch64, this is x86_64\n"
            "  try: compile without --calibrate, or on a machine that runs it"
        ),
    ),
}


@pytest.mark.parametrize("case", UNASKED)
def test_options_that_cannot_be_followed(capsys, files, case):
    words, message = UNASKED[case]
    assert refusal(capsys, files, *words) == message


def test_a_format_that_nothing_can_have(capsys, files):
    words = ("--calibrate", "samples.npz", "--max-error", "0.01", "--keep", "up*=f16")
    first, second = refusal(capsys, files, *words).split("\n")
    assert first == "keep up*=f16: nothing that matches can run in f16"
    start = "  2 operations could have "
    assert second.startswith(start)
    names = second.removeprefix(start).split(", ")
    assert names == sorted(names)
    assert {"bf16", "bf16x3", "f32", "w8a8-sym"} <= set(names)


def test_infinite_values_name_sample_and_node(capsys, files):
    weights = {"w": np.ones((4, 4), np.float32)}
    nodes = [
        helper.make_node("Exp", ["x"], ["e"], name="grow"),
        helper.make_node("MatMul", ["e", "w"], ["y"], name="product"),
    ]
    onnx.save(model_of(nodes, weights), "layers.onnx")
    x = np.ones((4, 2, 4), np.float32)
    x[1, 0, 2] = 100
    np.savez("samples.npz", x=x)
    words = ("--calibrate", "samples.npz", "--max-error", "0.01", "--jobs", "1")
    assert refusal(capsys, files, *words) == (
        "samples.npz, sample 1: node 'product' reads infinite or NaN values\n"
        "  its errors cannot be predicted\n"
        "  try: leave the sample away, or mend the model"
    )


PLANS = {
    "absent": (
        None,
        (
            "plan.json: cannot be read\n"
            "  the system says: No such file or directory\n"
            "  try: give plan.json of an artifact, or the artifact"
        ),
    ),
    "text": (
        "hello",
        (
            "plan.json: is no plan\n"
            "  expected variants with formats, found JSONDecodeError:"
            " Expecting value: line 1 column 1 (char 0)\n"
            "  try: take plan.json of an artifact that this version compiled"
        ),
    ),
    "format": (
        {"up0, tanh0": "w8a8-sim"},
        "plan.json: 'up0, tanh0': there is no format 'w8a8-sim'\n  try: did you mean 'w8a8-sym'?",
    ),
    "operation": (
        {"up9, tanh0": "bf16"},
        (
            "plan.json: 'up9, tanh0' is no operation of this model that has a choice\n"
            "  try: did you mean 'up0, tanh0'?"
        ),
    ),
    "samples": (
        {"up0, tanh0": "w8a8-static"},
        (
            "plan.json: 'up0, tanh0': w8a8-static is fitted to samples\n"
            "  try: give samples by --calibrate"
        ),
    ),
    "impossible": (
        {"down0, add0": "f16"},
        (
            "plan.json: 'down0, add0' cannot run in f16 on x86-64-v3\n"
            "  no kernel does that\n"
            "  try: `tilewright inspect MODEL --explain down0`"
        ),
    ),
}


@pytest.mark.parametrize("case", PLANS)
def test_plans_that_do_not_fit(capsys, files, case):
    content, message = PLANS[case]
    if isinstance(content, dict):
        content = json.dumps({"variants": {"x86-64-v3": {"formats": content}}})
    if content is not None:
        (files / "plan.json").write_text(content)
    words = ("--plan", "plan.json", "--target", "x86-64-v3", "--jobs", "1")
    assert refusal(capsys, files, *words) == message


def test_a_plan_and_other_wishes(capsys, files):
    words = ("--plan", "p.json", "--keep", "up0=bf16", "--calibrate", "s", "--max-error", "1")
    assert refusal(capsys, files, *words) == (
        "keep: the plan says which formats to take\n  try: edit the plan"
    )
