"""The examples of README.md, run as they stand, on the demo model."""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import tilewright
from tilewright import runtime
from tilewright.tools import demo

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = Path(runtime.__file__).parent / "include"


def example(language: str) -> str:
    """The only code block of README.md in `language`."""
    [code] = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return code


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, samples, the artifacts that the Python example makes of them, and
    the plan of the second."""
    made = tmp_path_factory.mktemp("readme")
    shutil.copy(demo.model_path(), made / "model.onnx")
    np.savez(made / "data.npz", image=demo.test_split()[0][:32, None])
    # A script without a main guard, as a newcomer writes it: its workers must not run it again.
    (made / "example.py").write_text(example("python") + "\nnp.save('logits.npy', logits)\n")
    run([sys.executable, "example.py"], made)
    with zipfile.ZipFile(made / "small.tw") as archive:
        archive.extract("plan.json", made)
    return made


def test_the_python_example(folder: Path) -> None:
    zeros = np.zeros((1, 1, 8, 8), np.float32)
    expected = tilewright.load(folder / "model.tw").run(None, {"image": zeros})[0]
    np.testing.assert_array_equal(np.load(folder / "logits.npy"), expected)


def test_python_from_standard_input(folder: Path) -> None:
    code = "import tilewright\ntilewright.compile('model.onnx', 'stdin.tw')\n"
    command = [sys.executable, "-"]
    subprocess.run(command, input=code, text=True, cwd=folder, check=True, timeout=120)
    assert (folder / "stdin.tw").read_bytes() == (folder / "model.tw").read_bytes()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_c_example(folder: Path) -> None:
    (folder / "example.c").write_text(example("c"))
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{INCLUDE}"]
    run(["cc", *flags, "example.c", "-o", "example", "-ldl"], folder)
    assert run(["./example"], folder) == "done\n"


def commands() -> list[str]:
    """The lines of the README's block of commands."""
    return re.findall(r"^tilewright .*#.*$", (ROOT / "README.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("line", commands(), ids=lambda line: line.split("#")[0].strip())
def test_the_commands(line: str, folder: Path, tmp_path: Path) -> None:
    for name in ("model.onnx", "model.tw", "small.tw", "data.npz", "plan.json"):
        shutil.copy(folder / name, tmp_path)
    np.save(tmp_path / "digit.npy", demo.test_split()[0][:1])
    [program, *words] = shlex.split(line, comments=True)
    assert program == "tilewright"
    run([sys.executable, "-m", "tilewright.tools.cli", *words], tmp_path)


def test_the_block_of_commands_is_found() -> None:
    assert len(commands()) >= 8
