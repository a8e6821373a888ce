"""Importers of recurrent operators and attention against ONNX."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from support.onnx_nodes import check, model_of, op_names, rand

from tilewright.backends import reference
from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.load import load_onnx


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("layout", [0, 1])
@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent(op: str, gates: int, layout: int, direction: str) -> None:
    count = 2 if direction == "bidirectional" else 1
    x = rand(2, 5, 3) if layout else rand(5, 2, 3)
    state = rand(2, count, 4) if layout else rand(count, 2, 4)
    inputs = [x, rand(count, gates * 4, 3), rand(count, gates * 4, 4), rand(count, gates * 8)]
    inputs += [None, state]
    options: dict[str, Any] = {"hidden_size": 4, "direction": direction, "layout": layout}
    if op == "GRU":
        options["linear_before_reset"] = 1
    check(op, inputs, constants=(1, 2, 3), outputs=2, **options)


def lstm_by_hand(x: np.ndarray, w: np.ndarray, r: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """A reversed LSTM with clipping of the gates, one sequence at a time: Y [S, 1, B, H]."""
    steps, batch, _ = x.shape
    hidden = r.shape[2]
    out = np.zeros((steps, 1, batch, hidden), np.float32)
    for b in range(batch):
        h, c = np.zeros(hidden), np.zeros(hidden)
        for t in reversed(range(lengths[b])):
            gates = np.clip(x[t, b] @ w[0].T + h @ r[0].T, -0.5, 0.5)
            i, o, f, g = np.split(gates, 4)
            i, o, f = (1 / (1 + np.exp(-v)) for v in (i, o, f))
            c = f * c + i * np.tanh(g)
            h = o * np.tanh(c)
            out[t, 0, b] = h
    return out


def test_lstm_with_lengths_and_clip() -> None:
    x, w, r = rand(5, 3, 2), rand(1, 16, 2), rand(1, 16, 4)
    lengths = np.array([5, 2, 3], np.int32)
    model = model_of(
        "LSTM", [x, w, r, None, lengths], (1, 2), hidden_size=4, direction="reverse", clip=0.5
    )
    (found,) = reference.run(load_onnx(model), [x, lengths])
    expected = lstm_by_hand(x, w, r, lengths)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_rnn_activations_take_their_parameters_in_order() -> None:
    x, w, r = rand(1, 2, 3), rand(2, 4, 3), rand(2, 4, 4)
    model = model_of(
        "RNN",
        [x, w, r],
        (1, 2),
        hidden_size=4,
        direction="bidirectional",
        activations=["LeakyRelu", "Affine"],
        activation_alpha=[0.5, 2.0],
        activation_beta=[1.0],
    )
    (found,) = reference.run(load_onnx(model), [x])
    forward, backward = (np.einsum("sbi,hi->sbh", x, w[i]) for i in range(2))
    expected = np.stack([np.where(forward >= 0, forward, forward / 2), 2 * backward + 1], 1)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_unknown_activation_is_refused() -> None:
    inputs = [rand(1, 2, 3), rand(1, 4, 3), rand(1, 4, 4)]
    model = model_of("RNN", inputs, (1, 2), hidden_size=4, activations=["Gauss"])
    with pytest.raises(UserError, match="activation 'Gauss' is unknown"):
        load_onnx(model)


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("softcap", [0.0, 2.0])
@pytest.mark.parametrize("mask", ["none", "bool", "float"])
def test_attention_with_grouped_heads_and_cache(causal: int, softcap: float, mask: str) -> None:
    q, k, v = rand(2, 4, 3, 8), rand(2, 2, 3, 8), rand(2, 2, 3, 8, seed=1)
    past = [rand(2, 2, 2, 8, seed=2), rand(2, 2, 2, 8, seed=3)]
    allowed = rand(3, 5, seed=4) > -0.5
    masks = {"none": None, "bool": allowed, "float": np.where(allowed, rand(3, 5), -np.inf)}
    given = masks[mask]
    given = given.astype(np.float32) if mask == "float" else given
    options = {"is_causal": causal, "softcap": softcap, "outputs": 3, "opset": 24}
    check("Attention", [q, k, v, given, *past], **options)


def test_attention_becomes_one_operation() -> None:
    inputs = [rand(2, 3, 8), rand(2, 5, 8), rand(2, 5, 8)]
    options = {"q_num_heads": 2, "kv_num_heads": 2, "opset": 23}
    names = op_names(load_onnx(model_of("Attention", inputs, **options)))
    assert names == {"reshape", "attention"}
    check("Attention", inputs, **options)


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rotated", [0, 4])
def test_rotary_embedding(interleaved: int, rotated: int) -> None:
    x, ids = rand(2, 3, 16), np.array([[0, 1, 2], [4, 3, 1]], np.int64)
    half = (rotated or 8) // 2
    inputs = [x, rand(6, half), rand(6, half, seed=1), ids]
    options = {"interleaved": interleaved, "rotary_embedding_dim": rotated, "num_heads": 2}
    check("RotaryEmbedding", inputs, opset=23, **options)
