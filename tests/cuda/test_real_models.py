"""Real models on the device: exact ones beside ONNX Runtime, those of 1e-2 within their bound."""

from pathlib import Path

import pytest
from support.real_models import CASES, errors, model

from tilewright.backends.cuda.here import why_not_here
from tilewright.backends.target import lookup
from tilewright.compiler.driver import compile_model
from tilewright.compiler.options import Options

pytestmark = [pytest.mark.cuda, pytest.mark.slow]


@pytest.mark.parametrize("bound", [None, 1e-2])
@pytest.mark.parametrize("name", CASES)
def test_errors_keep_their_bound(name: str, bound: float | None, tmp_path: Path) -> None:
    why = why_not_here(lookup("sm_90a"))
    if why:
        pytest.skip(why)
    path = model(name)
    compile_model(path, tmp_path / "m.tw", Options(targets=("sm_90a",), max_error=bound))
    rows = errors(name, tmp_path / "m.tw")
    assert not [r for r in rows if r.ours > (bound or max(2 * r.peers, 1e-6))]
