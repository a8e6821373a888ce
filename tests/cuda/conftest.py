"""A driver that stands in for the real one where a test asks for it."""

import weakref

import pytest
from support import fake_cuda, tiny_cuda
from support.stand_in_arrays import CUBIN

import tilewright.runtime
from tilewright.runtime.cuda import device, driver


@pytest.fixture
def fake(monkeypatch):
    made = fake_cuda.Driver()
    monkeypatch.setattr(driver, "import_module", lambda name: made)
    monkeypatch.setattr(driver, "_drivers", {})
    monkeypatch.setattr(device, "_devices", weakref.WeakValueDictionary())
    return made


@pytest.fixture(params=[False, True], ids=["fixed", "counts"])
def stand_in(request, fake, tmp_path):
    path = tiny_cuda.write(tmp_path / "tiny.tw", request.param, CUBIN)
    with tilewright.runtime.load(path) as opened:
        opened.counts = request.param
        yield opened
