"""Real models: the error of exact compilation beside ONNX Runtime's, and codelm's perplexity."""

from pathlib import Path

import numpy as np
import pytest
from support.real_models import (
    CASES,
    errors,
    model,
    peer,
    perplexity,
    random_feeds,
    relative_l2,
    tokens,
)

import tilewright
from tilewright.compiler.driver import compile_model
from tilewright.compiler.options import Options

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CASES)
def test_errors_are_at_most_twice_the_peers(name: str, tmp_path: Path) -> None:
    """Mean relative L2 error against a float64 run, for every shape and output."""
    path = model(name)
    artifact = tmp_path / "model.tw"
    compile_model(path, artifact, Options())
    bad = [row for row in errors(name, artifact) if row.ours > max(2 * row.peers, 1e-6)]
    assert not bad


def test_dynamic_and_static_agree(tmp_path: Path) -> None:
    """The same model exported with and without symbolic sizes."""
    found = []
    for name in ("minilm/minilm.onnx", "minilm/minilm_b1s128.onnx"):
        path = model(name)
        compile_model(path, tmp_path / "model.tw", Options())
        feeds = random_feeds(peer(path), {"batch": 1, "seq": 128}, 0)
        with tilewright.load(tmp_path / "model.tw") as session:
            found.append(session.run(None, feeds)[0])
    assert relative_l2(*found) < 2e-6


def test_a_long_decode_keeps_to_the_peers(tmp_path: Path) -> None:
    """Each step feeds on the caches of the steps before it; errors must not grow."""
    path = model("codelm/decode.onnx")
    compile_model(path, tmp_path / "decode.tw", Options())
    theirs = peer(path)
    feeds = random_feeds(theirs, {"batch": 1, "past": 1}, 0)
    mine, other = dict(feeds), dict(feeds)
    rng = np.random.default_rng(1)
    with tilewright.load(tmp_path / "decode.tw") as decode:
        for _ in range(24):
            mine["input_ids"] = other["input_ids"] = rng.integers(0, 8000, (1, 1))
            logits, mine["past_k"], mine["past_v"] = decode.run(None, mine)
            want, other["past_k"], other["past_v"] = theirs.run(None, other)
            assert relative_l2(logits, want) < 1e-5


@pytest.mark.parametrize(
    ("windows", "expected"), [(range(4), None), (range(32), "4.9944"), (range(255), "5.7650")]
)
def test_perplexity_of_codelm(windows: range, expected: str | None, tmp_path: Path) -> None:
    """To four decimals what float32 gives; without a stated number, what ONNX Runtime gives."""
    path, ids = model("codelm/prefill.onnx"), tokens()
    compile_model(path, tmp_path / "prefill.tw", Options())
    if expected is None:
        theirs = peer(path, threads=2)
        want = perplexity(lambda x: theirs.run(None, {"input_ids": x})[0], ids, windows)
        expected = f"{want:.4f}"
    with tilewright.load(tmp_path / "prefill.tw") as session:
        found = perplexity(lambda x: session.run(None, {"input_ids": x})[0], ids, windows)
    print(f"perplexity over {len(windows)} windows: {found:.6f}")
    assert f"{found:.4f}" == expected
