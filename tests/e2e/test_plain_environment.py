"""An artifact runs where only numpy and our wheel are installed."""

import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest

import tilewright
from tilewright.tools import demo

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import sys
import numpy as np
import tilewright
session = tilewright.load(sys.argv[1], threads=2)
images = np.load(sys.argv[2])
(logits,) = session.run(None, {session.get_inputs()[0].name: images})
np.save(sys.argv[3], logits)
absent = {"onnx", "onnxruntime", "llvmlite", "mlir", "scipy", "ml_dtypes", "click", "rich"}
loaded = {name.partition(".")[0] for name in sys.modules}
print(sorted(absent & loaded), "tilewright.compiler" in sys.modules)
"""


def call(*command: str | Path, **options) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_numpy_and_the_wheel_are_all_that_a_run_needs(digits: Path, tmp_path: Path) -> None:
    copy = tmp_path / "source"
    copy.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", "HEAD"], capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(copy)], input=archive.stdout, check=True)
    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, copy)
    (wheel,) = tmp_path.glob("tilewright-*.whl")
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    call(python, "-m", "pip", "install", "-q", "--no-deps", "numpy", wheel)
    images, _ = demo.test_split()
    np.save(tmp_path / "images.npy", images)
    environment = {"PATH": "/usr/bin:/bin"}  # no PYTHONPATH that would show the source tree
    told = call(
        python, "-c", RUN, digits, tmp_path / "images.npy", tmp_path / "logits.npy",
        cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert told.strip() == "[] False"
    with tilewright.load(digits, threads=2) as session:
        (want,) = session.run(None, {"image": images})
    assert np.load(tmp_path / "logits.npy").tobytes() == want.tobytes()
