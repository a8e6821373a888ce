"""What `import tilewright` gives, what it costs, and what running an artifact needs."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import tilewright
from tilewright.backends.artifact.package import PRODUCER

COMPILE_ONLY = ("onnx", "onnxruntime", "llvmlite", "scipy", "networkx", "highspy", "torch_mlir")


ROOT = Path(__file__).resolve().parent.parent


def python(code: str, folder: Path = ROOT) -> str:
    """Run `code` in a new interpreter, `folder` being current, and give what it prints."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_one_version() -> None:
    assert tilewright.__version__ == version("tilewright")
    assert f"tilewright {tilewright.__version__}" == PRODUCER


@pytest.mark.parametrize("name", tilewright.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(tilewright, name) is not None
    assert name in dir(tilewright)


def test_the_package_is_whole_from_every_folder(tmp_path: Path) -> None:
    """In the repository root Python meets the folder tilewright/ before the installed package."""
    code = "import tilewright.compiler as c, tilewright.runtime as r; print(c.__file__, r.__file__)"
    here, elsewhere = python(code, ROOT), python(code, tmp_path)
    assert here == elsewhere


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'tilewright' has no attribute 'compil'"):
        _ = tilewright.compil


def test_importing_the_face_imports_nothing_else() -> None:
    code = "import sys, tilewright; print([m for m in sys.modules if 'tilewright.' in m])"
    assert python(code).strip() == "[]"
    assert python("import sys, tilewright; print('numpy' in sys.modules)").strip() == "False"


def test_running_needs_only_numpy() -> None:
    """Open the session class where importing anything of the compile extra is an error."""
    code = f"""
import sys
sys.modules.update(dict.fromkeys({COMPILE_ONLY!r}))  # None makes the import fail
import tilewright
tilewright.Session, tilewright.load
ours = sorted(m for m in sys.modules if m.startswith("tilewright."))
assert all(m.startswith("tilewright.runtime") for m in ours), ours
assert "numpy" in sys.modules
"""
    python(code)
