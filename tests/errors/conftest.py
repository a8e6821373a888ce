"""Artifacts of the small model, compiled once a run by the command line itself."""

import onnx
import pytest
from support.command_line import small_model

from tilewright.tools.cli.exits import run


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("artifacts")
    onnx.save(small_model(), path / "small.onnx")
    return path


def _compiled(folder, name, target):
    path = folder / f"{name}.tw"
    words = ["compile", folder / "small.onnx", "-o", path, "--target", target, "--jobs", "1"]
    assert run(list(map(str, words))) == 0
    return path


@pytest.fixture(scope="session")
def small_artifact(folder):
    """The small model for any x86-64 machine that tests run on."""
    return _compiled(folder, "small", "x86-64-v2")


@pytest.fixture(scope="session")
def foreign_artifact(folder):
    """The small model for a machine that this one is not."""
    return _compiled(folder, "foreign", "neoverse-n1")
