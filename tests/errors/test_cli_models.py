"""Bad models at the command line: the whole message, exit status 1, no traceback, no artifact."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.command_line import call, model_of, refused, small_model

COMPLETE = "  try: check that the file is complete (Git LFS pointers and partial downloads are not)"


def truncated():
    data = small_model().SerializeToString()
    return data[: len(data) // 2]


def cyclic():
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["y"], name="third"),
    ]
    return model_of(nodes).SerializeToString()


def without_opset():
    model = small_model()
    del model.opset_import[:]
    return model.SerializeToString()


def external(location):
    model = small_model()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return model.SerializeToString()


def claims_ten_gigabytes():
    model = small_model()
    tensor = model.graph.initializer[0]
    del tensor.dims[:]
    tensor.dims.extend([50_000, 50_000])
    return model.SerializeToString()


def unknown_operator():
    return model_of([helper.make_node("Bogus", ["x"], ["y"], name="odd")]).SerializeToString()


RULE = "expected a relative path without '..' inside the model's folder, found"
CASES = {
    "truncated": (
        truncated(),
        (
            f"bad.onnx: not an ONNX model, or damaged\n"
            f"  the field at byte 2 ends at byte 123, its container at 64\n{COMPLETE}"
        ),
    ),
    "random bytes": (
        np.random.default_rng(0).bytes(400),
        (
            f"bad.onnx: not an ONNX model, or damaged\n"
            f"  byte 0 starts a field of unknown kind 7\n{COMPLETE}"
        ),
    ),
    "empty": (b"", "bad.onnx: the model file is empty\n  try: copy the file again"),
    "cycle": (
        cyclic(),
        "bad.onnx: the graph has a cycle\n  nodes: 'first' (Add), 'second' (Relu)",
    ),
    "no opset": (
        without_opset(),
        (
            "bad.onnx: the model imports no operator set\n"
            "  try: export the model again with an opset version"
        ),
    ),
    "external data above": (
        external("../secret.bin"),
        (
            "bad.onnx: initializer 'w': the external data path is not allowed\n"
            f"  {RULE} '../secret.bin'"
        ),
    ),
    "external data elsewhere": (
        external("/etc/passwd"),
        f"bad.onnx: initializer 'w': the external data path is not allowed\n  {RULE} '/etc/passwd'",
    ),
    "external data missing": (
        external("w.bin"),
        (
            "bad.onnx: initializer 'w': cannot open 'w.bin': No such file or directory\n"
            "  try: keep the data file in the model's folder"
        ),
    ),
    "ten gigabytes": (
        claims_ten_gigabytes(),
        (
            "bad.onnx: initializer 'w': the tensor's data do not fill its shape\n"
            "  f32[50000, 50000] takes 10000000000 bytes, the model holds 16\n"
            "  try: export the model again, it may be truncated"
        ),
    ),
    "unknown operator": (
        unknown_operator(),
        (
            "bad.onnx: operators that are not supported\n"
            "  Bogus (opset 20) x1: odd\n"
            "  try: export the model without these operators, or replace them by supported ones"
        ),
    ),
}


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_a_bad_model(name, tmp_path, capsys) -> None:
    data, message = CASES[name]
    (tmp_path / "bad.onnx").write_bytes(data)
    assert refused(capsys, "compile", "bad.onnx", "-o", "out.tw") == message
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]


@pytest.mark.parametrize("command", ["compile", "inspect", "opt", "verify", "bench"])
def test_a_model_that_is_not_there(command, capsys) -> None:
    message = "missing.onnx: the model file does not exist\n  try: check the path"
    assert refused(capsys, command, "missing.onnx") == message


def test_a_link_out_of_the_folder(tmp_path, capsys) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (tmp_path / "inside/w.bin").symlink_to(tmp_path / "secret.bin")
    (tmp_path / "inside/bad.onnx").write_bytes(external("w.bin"))
    text = refused(capsys, "compile", "inside/bad.onnx", "-o", "out.tw")
    assert text == (
        "bad.onnx: initializer 'w': the external data path leaves the model's folder\n"
        f"  {RULE} 'w.bin' which leads to {tmp_path.resolve()}/secret.bin"
    )


def test_an_unknown_target(tmp_path, capsys) -> None:
    onnx.save(small_model(), tmp_path / "s.onnx")
    text = refused(capsys, "compile", "s.onnx", "--target", "x86-64-v9")
    assert text == (
        "--target x86-64-v9: unknown target 'x86-64-v9' (did you mean 'x86-64-v4'?); known "
        "targets: x86-64-v2, x86-64-v3, x86-64-v4, sapphirerapids, neoverse-n1, sm_80, sm_90a"
    )


def test_an_unknown_pass(tmp_path, capsys) -> None:
    onnx.save(small_model(), tmp_path / "s.onnx")
    message = "pass 'fold-constant': there is no such pass\n  try: did you mean 'fold-constants'?"
    assert refused(capsys, "opt", "s.onnx", "--passes", "fold-constant") == message
    assert refused(capsys, "compile", "s.onnx", "--print-after", "fold-constant") == message


def test_an_unknown_stage(tmp_path, capsys) -> None:
    onnx.save(small_model(), tmp_path / "s.onnx")
    assert refused(capsys, "inspect", "s.onnx", "--ir", "fuse-region") == (
        "stage 'fuse-region': there is no such stage\n  try: did you mean 'fuse-regions'?"
    )
    assert refused(capsys, "inspect", "s.onnx", "--ir", "fold-gathers:9") == (
        "stage 'fold-gathers:9': fold-gathers runs 2 times\n  try: fold-gathers:2"
    )


def test_ir_text_that_does_not_parse(tmp_path, capsys) -> None:
    (tmp_path / "bad.ir").write_text("graph @g(%x: f32[4]) {\n  %y = bogus %x : f32[4]\n")
    text = refused(capsys, "opt", "bad.ir")
    assert text.startswith("bad.ir:2:8: ")
    assert "  %y = bogus %x : f32[4]\n         ^" in text
    assert refused(capsys, "opt", "none.ir") == (
        "none.ir: cannot be read: No such file or directory\n  try: check the path"
    )


def test_the_same_error_as_json(tmp_path, capsys) -> None:
    from support.command_line import call

    called = call(capsys, "compile", "missing.onnx", "--json")
    assert called.status == 1
    assert called.document == {
        "error": {
            "exit": 1,
            "type": "UserError",
            "message": "missing.onnx: the model file does not exist\n  try: check the path",
            "where": "missing.onnx",
            "what": "the model file does not exist",
            "hint": "check the path",
        }
    }


def two_wide_results():
    """Sums over axes of two results that wait for each other, each 4 KiB a row."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="left"),
        helper.make_node("MatMul", ["x", "v"], ["b"], name="right"),
        helper.make_node("MatMul", ["a", "t"], ["c"], name="back"),
        helper.make_node("MatMul", ["b", "t"], ["d"], name="forth"),
        helper.make_node("Softmax", ["c"], ["e"], name="soft"),
        helper.make_node("Add", ["e", "d"], ["y"], name="plus"),
    ]
    values = {"w": (4, 1024), "v": (4, 1024), "t": (1024, 4)}
    rng = np.random.default_rng(0)
    weights = {k: rng.standard_normal(shape, np.float32) for k, shape in values.items()}
    return model_of(nodes, weights)


def test_caps_on_memory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save(two_wide_results(), "wide.onnx")
    words = ("compile", "wide.onnx", "--target", "x86-64-v2", "--stop-after", "lower")
    assert refused(capsys, *words, "--max-memory", "1M") == (
        "max_memory: it takes dimensions with bounds\n  without: 'n'\n  try: --dim n=1..N"
    )
    bounded = (*words, "--dim", "n=1..64")
    text = refused(capsys, *bounded, "--max-memory", "128K").split("\n")
    assert text[0] == "max_memory: the model does not run in 131,072 bytes"
    assert text[1].startswith("  weights take ")
    assert " with n = 64" in text[1]
    assert text[2].startswith("  try: narrow the dimensions with --dim, or allow ")
    enough = text[2].split()[-2].replace(",", "")
    call(capsys, *bounded, "--max-memory", enough)
    few = refused(capsys, *bounded, "--max-memory", "64K").split("\n")
    assert few[1] == text[1].split(";")[0], "what the weights take is known then too"
    assert refused(capsys, *bounded, "--max-memory", str(int(enough) - 1)).startswith(
        f"max_memory: the model does not run in {int(enough) - 1:,} bytes\n"
    )
    text = refused(capsys, *bounded, "--fast-memory", "200k").split("\n")
    assert text[0] == "fast_memory: 204,800 bytes do not hold what one step works on"
    assert text[1].startswith("  it needs 525,312 bytes: '")
    least = text[2].removeprefix("  try: allow ").removesuffix(" bytes or more").replace(",", "")
    report = call(capsys, *bounded, "--fast-memory", least, "--json").document
    assert report["variants"][0]["memory"]["arena_bytes"] >= int(least)
    called = call(capsys, *words, "--fast-memory", "12Q")
    assert called.status == 2
    assert "'12Q' is no number of bytes like 65536, 64K, 2M or 1G" in called.err
