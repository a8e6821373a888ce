"""Artifacts of the shipped demo model, compiled once for all tests of this folder."""

from pathlib import Path

import pytest

from tilewright.compiler.driver import CompileResult, compile_model
from tilewright.compiler.options import Options
from tilewright.tools import demo


@pytest.fixture(scope="session")
def digits_result(tmp_path_factory: pytest.TempPathFactory) -> CompileResult:
    """The demo model compiled for this machine, in worker processes as a user's compile is."""
    path = tmp_path_factory.mktemp("digits") / "digits.tw"
    return compile_model(demo.model_path(), path, Options())


@pytest.fixture
def digits(digits_result: CompileResult) -> Path:
    assert digits_result.path is not None
    return digits_result.path
