"""The models that are measured on GPUs: what they compute, by ONNX Runtime."""

import numpy as np
import onnxruntime as ort
import pytest

from tilewright.tools.bench import gpu_model_cases
from tilewright.tools.bench.transformer_graphs import (
    Decoder,
    Encoder,
    decoder_graph,
    encoder_graph,
)

ENCODER = Encoder("small", 2, 32, 4, 64, 100)
DECODER = Decoder("small", 2, 32, 4, 2, 48, 100, 64)


def session(model):
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def test_tokens_that_are_hidden_do_not_matter():
    ids = np.random.default_rng(0).integers(0, 100, (2, 9))
    mask = np.ones((2, 9), np.int64)
    mask[1, 6:] = 0
    run = session(encoder_graph(ENCODER)).run
    (whole,) = run(None, {"input_ids": ids, "attention_mask": mask})
    short = {"input_ids": ids[1:, :6], "attention_mask": mask[1:, :6]}
    (part,) = run(None, short)
    assert whole.shape == (2, 9, 32)
    np.testing.assert_allclose(whole[1:, :6], part, rtol=1e-4, atol=1e-5)
    ids[1, 7] += 1
    (other,) = run(None, {"input_ids": ids, "attention_mask": mask})
    np.testing.assert_allclose(whole[1:, :6], other[1:, :6], rtol=1e-4, atol=1e-5)


def test_steps_of_the_decoder_are_all_tokens_at_once():
    ids = np.random.default_rng(1).integers(0, 100, (3, 7))
    (logits,) = session(decoder_graph(DECODER, past=False)).run(None, {"input_ids": ids})
    step = session(decoder_graph(DECODER, past=True))
    k = v = np.zeros((2, 3, 2, 0, 8), np.float32)
    for i in range(7):
        feeds = {"input_ids": ids[:, i : i + 1], "past_k": k, "past_v": v}
        now, k, v = step.run(None, feeds)
        np.testing.assert_allclose(now[:, 0], logits[:, i], rtol=1e-4, atol=1e-5)
    assert k.shape == (2, 3, 2, 7, 8)


@pytest.mark.parametrize("past", [False, True])
def test_modules_compute_the_same(past):
    torch = pytest.importorskip("torch")
    from tilewright.tools.bench.transformer_modules import decoder_module

    rng = np.random.default_rng(2)
    feeds = {"input_ids": rng.integers(0, 100, (2, 1 if past else 5))}
    if past:
        for name in ("past_k", "past_v"):
            feeds[name] = rng.standard_normal((2, 2, 2, 4, 8)).astype(np.float32)
    wanted = session(decoder_graph(DECODER, past)).run(None, feeds)
    given = {key: torch.from_numpy(array) for key, array in feeds.items()}
    found = decoder_module(DECODER, torch.float32, past, "cpu")(**given)
    found = found if past else (found,)
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "case",
    [
        gpu_model_cases.Case(ENCODER, 2, 9),
        gpu_model_cases.Case(DECODER, 2, 5),
        gpu_model_cases.Case(DECODER, 2, 1, 5),
    ],
    ids=lambda case: case.name,
)
def test_inputs_fit_the_model(case):
    (first, *_) = (
        ort.InferenceSession(gpu_model_cases.graph(case), providers=["CPUExecutionProvider"])
    ).run(None, gpu_model_cases.inputs(case, 0))
    assert first.shape[:2] == (case.batch, case.seq)
    assert np.isfinite(first).all()


def test_names_of_cases_are_different():
    names = [case.name for case in gpu_model_cases.CASES]
    assert len(set(names)) == len(names)
