"""The tiny artifact, built once a run."""

import os

import pytest
from support.tiny_artifact import build_code, write_tiny

import tilewright.runtime


@pytest.fixture(scope="session")
def code():
    if os.uname().machine != "x86_64":
        pytest.skip("the tiny model is x86-64 code")
    return build_code()


@pytest.fixture(scope="session")
def artifact(code, tmp_path_factory):
    return write_tiny(str(tmp_path_factory.mktemp("tiny") / "tiny.tw"), code)


@pytest.fixture
def session(artifact):
    with tilewright.runtime.load(artifact, threads=2) as opened:
        yield opened
