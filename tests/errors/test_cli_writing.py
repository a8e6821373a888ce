"""Output that cannot be written or is cut off: nothing half-written stays."""

import os
import resource
import signal
import subprocess
import sys
import time

import onnx
import pytest
from support.command_line import refused, small_model

from tilewright.runtime.session import load

OLD = b"the artifact of an earlier compile"
MAIN = "from tilewright.tools.cli import main; main()"


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(small_model(), "small.onnx")


def command(code, *words):
    """A command line in a process of its own."""
    return [sys.executable, "-c", code, *words]


def ends(group, seconds=10):
    """Whether no process of the group is left within some time."""
    for _ in range(seconds * 20):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


COMPILE = ("compile", "small.onnx", "-o", "out.tw", "--jobs", "1")


def test_paths_that_cannot_be_written(capsys, tmp_path) -> None:
    cases = {
        "none/out.tw": "there is no folder none\n  try: create it first",
        "/dev/full": "it is a device or pipe\n  try: give the path of a file",
        str(tmp_path): "it is a folder\n  try: give the path of a file",
    }
    for path, found in cases.items():
        text = refused(capsys, "compile", "small.onnx", "-o", path)
        assert text == f"{path}: cannot be written\n  {found}"


def test_a_full_disk(tmp_path) -> None:
    (tmp_path / "out.tw").write_bytes(OLD)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    # The interpreter must not try to write bytecode files under the limit either.
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    made = subprocess.run(
        command(MAIN, *COMPILE),
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env=environment,
        check=False,
    )
    assert made.returncode == 1, made.stderr
    first, second, third = made.stderr.rstrip("\n").split("\n")
    assert first == "out.tw: the artifact cannot be written"
    assert second.startswith("  it needs ")
    assert second.endswith(" bytes; the system says: File too large")
    assert third == "  try: write to another path"
    assert (tmp_path / "out.tw").read_bytes() == OLD
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.tw", "small.onnx"]


def test_a_full_disk_below_stdout(tmp_path) -> None:
    with open("/dev/full", "w") as full:
        made = subprocess.run(
            command(MAIN, "targets"), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert made.returncode == 1
    assert made.stderr == "targets: No space left on device\n"


def test_a_reader_that_goes_away() -> None:
    made = subprocess.run(
        [
            "bash",
            "-c",
            '"$@" | true; exit "${PIPESTATUS[0]}"',
            "x",
            *command(MAIN, "opt", "--list"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.stderr == ""


def test_killed_while_writing(tmp_path) -> None:
    """SIGKILL after all data are in the temporary file, before it is put in place."""
    (tmp_path / "out.tw").write_bytes(OLD)
    code = (
        "import os, signal\n"
        "from tilewright.backends.artifact.zip_stream import ZipStream\n"
        "ZipStream.finish = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n" + MAIN
    )
    made = subprocess.run(command(code, *COMPILE), capture_output=True, check=False)
    assert made.returncode == -signal.SIGKILL
    assert (tmp_path / "out.tw").read_bytes() == OLD
    left = sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".partial")
    assert left == ["out.tw", "small.onnx"], "only a file that is no artifact by name"


def test_interrupted_while_compiling(tmp_path) -> None:
    """Ctrl-C reaches the whole process group, as from a terminal."""
    process = subprocess.Popen(
        command(MAIN, *COMPILE, "-v"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # a shell's background jobs ignore Ctrl-C, and so would what they start
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("lower: "):
            break
    time.sleep(0.3)  # the workers are starting or compiling now
    os.killpg(process.pid, signal.SIGINT)
    out, rest = process.communicate(timeout=60)
    assert process.returncode == 1, rest
    assert out == ""
    assert rest.rstrip("\n").split("\n")[-1] == "compile: interrupted"
    assert "Traceback" not in rest
    assert [p.name for p in tmp_path.iterdir()] == ["small.onnx"]
    assert ends(process.pid), "a worker process is left"


def test_a_compile_that_is_stopped_and_continued_goes_on(tmp_path) -> None:
    """As with Ctrl-Z and `fg`."""
    process = subprocess.Popen(command(MAIN, *COMPILE, "-v"), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("lower: "):
            break
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGCONT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert (tmp_path / "out.tw").exists()


def test_outputs_of_a_run_are_whole_or_absent(tmp_path, capsys, small_artifact) -> None:
    text = refused(capsys, "run", small_artifact, "--random", "-o", "none/out.npz")
    assert text == (
        "none/out.npz: cannot be written\n  there is no folder none\n  try: create it first"
    )

    def limit():
        # The code goes to a file in memory first, which must fit.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))

    words = ("run", str(small_artifact), "--random", "--shape", "n=16384", "-o", "out.npz")
    made = subprocess.run(
        command(MAIN, *words),
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert made.returncode == 1
    assert made.stderr == (
        "out.npz: cannot be written\n  the system says: File too large\n"
        "  try: write to another path\n"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["small.onnx"]


def test_a_written_artifact_loads(tmp_path, capsys, small_artifact) -> None:
    """The other tests would pass on a compile that never works."""
    with load(small_artifact, threads=1) as session:
        assert [node.name for node in session.get_outputs()] == ["y"]
