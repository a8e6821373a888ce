"""The command line as a whole: help, completion, exit statuses, what it may import."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from support.command_line import call, small_model

from tilewright.compiler import driver_stages
from tilewright.compiler import options as compiler_options
from tilewright.tools.cli import group, options

MAIN = "from tilewright.tools.cli import main; main()"
HEAVY = [
    "numpy",
    "onnx",
    "llvmlite",
    "scipy",
    "onnxruntime",
    "openvino",
    "tilewright.compiler.driver",
]


def separate(code, *words, **environment):
    """A command line in a process of its own, which `code` starts."""
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.parametrize("name", group.COMMANDS)
def test_every_command_has_help_with_examples(name, capsys) -> None:
    called = call(capsys, name, "--help")
    assert called.status == 0
    examples = called.out.partition("Examples:")[2]
    assert f"  tilewright {name}" in examples
    assert "--json" in called.out
    assert "\b" not in called.out


def test_examples_name_only_options_that_exist(capsys) -> None:
    for name in group.COMMANDS:
        command = group.cli.get_command(None, name)
        known = {text for p in command.params for text in (*p.opts, *p.secondary_opts)}
        used = {w for w in call(capsys, name, "--help").out.split() if w.startswith("--")}
        wrong = {w.strip(",.:;()") for w in used} - known - {"--help"}
        assert not {w for w in wrong if w[2:3].isalpha()}, name


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tilewright.tools.cli.exits import run\nrun(['--help'])\n"
        f"print([n for n in {HEAVY} if n in sys.modules], file=sys.stderr)"
    )
    made = separate(code)
    assert made.stderr == "[]\n"
    for name in group.COMMANDS:
        assert f"\n  {name} " in made.stdout


def test_the_stages_are_those_of_the_compiler() -> None:
    assert options.STAGES == compiler_options.STAGES


@pytest.mark.parametrize("shell", group.SHELLS)
def test_completion_scripts_call_back_to_us(shell) -> None:
    made = separate(MAIN, "--completion", shell)
    assert made.returncode == 0
    assert group.COMPLETE_VARIABLE in made.stdout
    assert group.PROGRAM in made.stdout


def test_completion_completes_commands_and_options() -> None:
    def complete(words, index):
        return separate(
            MAIN, _TILEWRIGHT_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(index)
        ).stdout

    assert complete("tilewright ver", 1) == "plain,verify\n"
    assert "plain,--stop-after\n" in complete("tilewright compile --stop", 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("insect",), "Error: No such command 'insect'; did you mean 'inspect'?"),
        (("compile",), "Error: Missing argument 'MODEL'."),
        (("opt",), "Error: Missing argument 'MODEL.onnx|FILE.ir' (or --list)."),
        (
            ("compile", "m.onnx", "--stop-after", "x"),
            (
                "Error: Invalid value for '--stop-after': 'x' is not one of 'import', 'passes', "
                "'lower', 'codegen', 'package'."
            ),
        ),
        (
            ("compile", "m.onnx", "--dim", "batch"),
            "Error: Invalid value for '--dim': 'batch' is not of the form NAME=VALUE",
        ),
        (
            ("run", "m.tw", "--shape", "batch=two"),
            "Error: Invalid value for '--shape': batch=two: expected a size",
        ),
        (
            ("bench", "m.tw", "--against", "tensorrt"),
            (
                "Error: Invalid value for --against: 'tensorrt' is not one of onnxruntime, "
                "openvino, torch, none"
            ),
        ),
        (
            ("inspect", "m.tw", "--asm"),
            "Error: --llvm and --asm say what to show of a --kernel NAME.",
        ),
        (
            ("verify", "m.tw"),
            "Error: The model comes first: tilewright verify MODEL.onnx [ARTIFACT.tw]",
        ),
    ],
)
def test_wrong_usage(words, message, capsys) -> None:
    called = call(capsys, *words)
    assert called.status == 2
    assert called.out == ""
    assert called.err.rstrip("\n").split("\n")[-1] == message


def test_stdout_stays_apart_from_a_terminal_on_stderr(tmp_path) -> None:
    """Progress is drawn on the terminal; the pipe gets the document and the terminal none of it."""
    onnx.save(small_model(), tmp_path / "s.onnx")
    ours, theirs = pty.openpty()
    words = ("opt", str(tmp_path / "s.onnx"), "--passes", "fuse-regions", "--print-after-each")
    made = subprocess.run(
        [sys.executable, "-c", MAIN, *words],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "300"},
        check=False,
    )
    os.close(theirs)
    drawn = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert made.returncode == 0
    assert made.stdout.startswith("# after fuse-regions\ngraph @small(")
    assert "\x1b" not in made.stdout
    assert "passes over " in drawn
    assert "graph @small" not in drawn


def broken(*arguments):
    raise AssertionError("the front end lost its place\nsecond line")


def test_our_own_fault(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(driver_stages, "load_onnx", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    model = tmp_path / "s.onnx"
    onnx.save(small_model(), model)
    called = call(capsys, "compile", model, "-o", tmp_path / "o.tw")
    assert called.status == 3
    (dump,) = tmp_path.glob("tilewright-dump-*.txt")
    assert called.err == (
        "compile: internal error: AssertionError: the front end lost its place\n"
        f"  the details are in {dump}\n  try: report it with that file\n"
    )
    text = dump.read_text()
    assert f"command: tilewright compile {model} -o" in text
    assert 'raise AssertionError("the front end lost its place' in text
    assert "\nllvmlite: 0." in text
    document = call(capsys, "compile", model, "-o", tmp_path / "o.tw", "--json").document
    assert document["error"]["exit"] == 3
    assert document["error"]["type"] == "AssertionError"
    assert os.path.exists(document["error"]["dump"])


def test_a_fault_whose_dump_cannot_be_written(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(driver_stages, "load_onnx", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    onnx.save(small_model(), tmp_path / "s.onnx")
    called = call(capsys, "compile", tmp_path / "s.onnx", "--stop-after", "import")
    assert called.status == 3
    assert called.err.split("\n")[1] == "  no dump could be written: No such file or directory"


WITHOUT_COMPILER = (
    "import sys\n"
    "for name in 'onnx llvmlite ml_dtypes networkx highspy scipy google mlir torch_mlir "
    "onnxruntime openvino'.split():\n"
    "    sys.modules[name] = None\n"
)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("compile", ("s.onnx",)),
        ("opt", ("--list",)),
        ("inspect", ("s.onnx",)),
        ("verify", ("s.onnx",)),
        ("bench", ("s.onnx",)),
        ("targets", ()),
        ("demo", ()),
    ],
)
def test_a_machine_without_the_compiler(name, words) -> None:
    made = separate(WITHOUT_COMPILER + MAIN, name, *words)
    assert made.returncode == 1
    assert made.stderr == (
        f'{name}: this needs the compiler; try: pip install "tilewright[compiler]"\n'
    )


def test_targets_measures_and_keeps_the_profile(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "not measured" in call(capsys, "targets").out
    document = call(capsys, "targets", "--measure", "--seconds", "0.01", "--json").document
    assert document["profile"]["rates"]["f32"]["burst"] > 1e9
    assert Path(document["stored"]).is_relative_to(tmp_path)
    listed = call(capsys, "targets", "--json").document
    assert listed["machine"]["measured"] == document["stored"]
    rows = {row["name"]: row["profile"] for row in listed["targets"]}
    assert rows[listed["native"]]["digest"] == document["profile"]["digest"]
    assert "read DRAM" in call(capsys, "targets").out


def test_targets_measures_another_row_into_a_file(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ("targets", "--measure", "--seconds", "0.01", "--row", "x86-64-v2")
    made = call(capsys, *words, "--output", str(tmp_path / "v2.json"))
    assert "x86-64-v2 on " in made.out
    assert not (tmp_path / "cache").exists()
    assert '"target": "x86-64-v2"' in (tmp_path / "v2.json").read_text()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("--row", "native"), 2, "--row goes with --measure"),
        (("--output", "x.json"), 2, "--output goes with --measure"),
        (("--measure", "--row", "x86-64-v2"), 2, "name a file: --output"),
        (("--measure", "--row", "neoverse-n1"), 1, "cannot run code of this target"),
        (("--measure", "--row", "pentium"), 1, "unknown target 'pentium'"),
        (("--measure", "--output", "no/where.json"), 1, "there is no folder no"),
    ],
)
def test_targets_refusals(capsys, words, status, message) -> None:
    made = call(capsys, "targets", *words)
    assert made.status == status
    assert message in made.err


def test_targets(capsys) -> None:
    document = call(capsys, "targets", "--json").document
    rows = {row["name"]: row for row in document["targets"]}
    assert rows["x86-64-v3"]["inherits"] == "x86-64-v2"
    assert "fma" in rows["x86-64-v4"]["features"]
    assert rows[document["native"]]["runs_here"]
    assert [name for name, row in rows.items() if row["native"]] == [document["native"]]
    for row in rows.values():
        if row["architecture"] == document["machine"]["architecture"]:
            assert row["runs_here"] == (not row["missing"])
        else:
            assert not row["runs_here"]
    table = call(capsys, "targets").out
    assert f" {document['native']} " in table
    assert "yes: `native`" in table
