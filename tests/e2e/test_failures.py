"""Compiles that end badly: a killed process, a crashed worker, a full or forbidden folder."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.failing_kernels import AbortingKernel, RefusedKernel

from tilewright.backends.artifact.writer import ArtifactWriteError
from tilewright.backends.llvm.codegen import CodegenError, compile_all
from tilewright.backends.target import detect
from tilewright.compiler.driver import compile_model
from tilewright.compiler.errors import UserError
from tilewright.compiler.options import Options
from tilewright.tools import demo

KILLED = """
import os, signal, sys
from tilewright.backends.artifact import writer
from tilewright.compiler.driver import compile_model
from tilewright.compiler.options import Options
from tilewright.tools import demo

def end(*_):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(writer.os, sys.argv[2], end)  # the moment to die at
compile_model(demo.model_path(), sys.argv[1], Options(jobs=0))
"""


@pytest.mark.parametrize(
    ("moment", "old"), [("fsync", None), ("replace", b"an older artifact")], ids=["new", "old"]
)
def test_a_killed_compile_leaves_the_old_file_or_none(
    tmp_path: Path, moment: str, old: bytes | None
) -> None:
    path = tmp_path / "digits.tw"
    if old is not None:
        path.write_bytes(old)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), moment], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (path.read_bytes() if path.exists() else None) == old
    compile_model(demo.model_path(), path, Options(jobs=0))
    assert path.stat().st_size > 100_000, "the next compile is not in the way of the last"


def children(pid: int) -> set[int]:
    """Processes whose parent is `pid`."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            if int(fields[1]) == pid:
                found.add(int(entry.name))
    return found


def alive(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_workers_end_with_the_compile_that_was_killed(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom tilewright.compiler.driver import compile_model\n"
        "from tilewright.compiler.options import Options\nfrom tilewright.tools import demo\n"
        "compile_model(demo.model_path(), sys.argv[1], Options(jobs=2))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a.tw")])
    workers: set[int] = set()
    deadline = time.monotonic() + 60
    while len(workers) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        workers |= children(process.pid)
    assert workers, "the compile ended before it had workers"
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = {pid for pid in workers if alive(pid)}
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left, "workers outlive the compile"
    assert not (tmp_path / "a.tw").exists()


def test_a_worker_that_dies_is_an_error_that_names_its_kernel() -> None:
    with pytest.raises(CodegenError, match=r"kernel aborting_\w+.*killed its process") as error:
        compile_all([AbortingKernel()], detect(), jobs=1)
    assert "AbortingKernel()" in str(error.value)


@pytest.mark.parametrize("jobs", [0, 1])
def test_a_kernel_that_cannot_be_emitted_is_named(jobs: int) -> None:
    with pytest.raises(CodegenError, match=r"kernel refused_\w+: there is no such instruction"):
        compile_all([RefusedKernel()], detect(), jobs=jobs)


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ArtifactWriteError, match="create the folder first"):
        compile_model(demo.model_path(), tmp_path / "no" / "a.tw", Options(jobs=0))


def test_targets_and_stages_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="x86-64-v9"):
        compile_model(demo.model_path(), tmp_path / "a.tw", Options(targets=("x86-64-v9",)))
    with pytest.raises(UserError, match="there is no such stage"):
        compile_model(demo.model_path(), tmp_path / "a.tw", Options(stop_after="pases"))
    assert not list(tmp_path.iterdir())
