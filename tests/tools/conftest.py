"""The digits model compiled once a run, by the command line itself."""

import platform

import pytest

from tilewright.tools import demo
from tilewright.tools.cli.exits import run


@pytest.fixture(scope="session")
def digits_artifact(tmp_path_factory):
    if platform.machine() != "x86_64":
        pytest.skip("compiles x86-64 code")
    path = tmp_path_factory.mktemp("digits") / "digits.tw"
    words = ["compile", str(demo.model_path()), "-o", str(path), "--target", "x86-64-v2"]
    assert run(words) == 0
    return path
