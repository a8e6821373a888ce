"""A driver that stands in for the real one where a test asks for it."""

import weakref

import pytest
from support import fake_cuda

from tilewright.runtime.cuda import device, driver


@pytest.fixture
def fake(monkeypatch):
    made = fake_cuda.Driver()
    monkeypatch.setattr(driver, "import_module", lambda name: made)
    monkeypatch.setattr(driver, "_drivers", {})
    monkeypatch.setattr(device, "_devices", weakref.WeakValueDictionary())
    return made
