"""Key-value caches in codes, from the command line and the API to a decoding loop."""

import json
import zipfile
from functools import cache
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from support.command_line import refused
from support.decoder_model import GROUPS, LAYERS, WORDS, decoder_model

import tilewright
from tilewright.backends.llvm import codegen
from tilewright.compiler.errors import UserError
from tilewright.compiler.formats.caches import CACHES
from tilewright.runtime.caches import CacheInfo, cache_infos
from tilewright.runtime.manifest import CACHES_KEY, ManifestError

SIZE, STEPS, BEFORE = 16, 12, 30
IDS = np.random.default_rng(1).integers(0, WORDS, (2, BEFORE + STEPS))
TOLERANCE = {"int8": 0.01, "int4": 0.12}
"""Relative L2 errors of logits: about those of storing rows, 0.6 % and 10 %."""


@pytest.fixture(scope="module", autouse=True)
def _kernels_once():
    """Equal kernels of the compiles of this module are compiled once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codegen, "compile_kernel", cache(codegen.compile_kernel))
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """prefill.onnx, decode.onnx, and caches.npz: feeds of decode from texts of several lengths."""
    folder = tmp_path_factory.mktemp("caches")
    onnx.save(decoder_model(past=False), folder / "prefill.onnx")
    onnx.save(decoder_model(past=True), folder / "decode.onnx")
    session = reference(folder, "prefill")
    (folder / "feeds").mkdir()
    for i in range(8):
        ids = np.random.default_rng(i).integers(0, WORDS, (1, 20 + i))
        _, k, v = session.run(None, {"ids": ids})
        np.savez(folder / "feeds" / f"{i}.npz", ids=ids[:, :1], past_k=k, past_v=v)
    return folder


def reference(files, name):
    return ort.InferenceSession(files / f"{name}.onnx", providers=["CPUExecutionProvider"])


def decoded(sessions, caches):
    """Logits of every position after BEFORE, from a prefill and then a token a step."""
    prefill, decode = sessions
    names = [o.name for o in decode.get_outputs()]
    outputs = dict(zip([o.name for o in prefill.get_outputs()],
                       prefill.run(None, {"ids": IDS[:, :BEFORE]}), strict=True))  # fmt: skip
    found, seen = [], [outputs]
    for at in range(BEFORE, BEFORE + STEPS):
        feeds = {past: outputs[present] for present, past in caches}
        feeds["ids"] = IDS[:, at : at + 1]
        outputs = dict(zip(names, decode.run(None, feeds), strict=True))
        found.append(outputs["logits"])
        seen.append(outputs)
    return np.concatenate(found, axis=1), seen


def error(found, wanted):
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.fixture(scope="module")
def exact(files):
    pairs = [(f"present_{p}", f"past_{p}") for p in "kv"]
    logits, _ = decoded([reference(files, n) for n in ("prefill", "decode")], pairs)
    return logits


def artifacts(files, name):
    for model in ("prefill", "decode"):
        path = files / f"{model}-{name}.tw"
        if not path.exists():
            tilewright.compile(files / f"{model}.onnx", path, kv_cache=name, jobs=0)
        yield tilewright.load(path, threads=1)


@pytest.mark.parametrize("name", CACHES)
def test_prefill_and_decode_hand_caches_on_unchanged(files, exact, name):
    prefill, decode = artifacts(files, name)
    assert [cache.links for cache in prefill.caches] == [(), ()]
    links = [pair for cache in decode.caches for pair in cache.links]
    assert links == [
        ("present_k", "past_k"),
        ("present_k_scale", "past_k_scale"),
        ("present_v", "past_v"),
        ("present_v_scale", "past_v_scale"),
    ]
    logits, seen = decoded((prefill, decode), links)
    assert 1e-4 < error(logits, exact) < TOLERANCE[name]
    made = CACHES[name]
    for before, after in pairwise(seen):
        count = before["present_k"].shape[3]
        for part in ("present_k", "present_v"):
            assert after[part].shape == (LAYERS, 2, GROUPS, count + 1, made.width(SIZE))
            assert after[part].dtype == {"int8": np.int8, "int4": np.uint8}[name]
            assert after[f"{part}_scale"].shape == (LAYERS, 2, GROUPS, count + 1)
            # A row that is stored is not stored again.
            for tensor in (part, f"{part}_scale"):
                np.testing.assert_array_equal(after[tensor][:, :, :, :count], before[tensor])


@pytest.mark.parametrize("name", CACHES)
def test_what_is_stored_are_the_rows_of_the_model(files, name):
    prefill, _ = artifacts(files, name)
    _, *wanted = reference(files, "prefill").run(None, {"ids": IDS})
    outputs = dict(zip([o.name for o in prefill.get_outputs()], prefill.run(None, {"ids": IDS}),
                       strict=True))  # fmt: skip
    made = CACHES[name]
    for part, rows in zip(("present_k", "present_v"), wanted, strict=True):
        codes, scales = made.encode(rows)
        np.testing.assert_allclose(outputs[f"{part}_scale"], scales, rtol=1e-5)
        # Rows differ in their last bits, so a code next to a half may fall to the other side.
        other = np.count_nonzero(outputs[part] != codes)
        assert other <= 1e-3 * codes.size


def test_manifest_and_inputs_say_what_caches_are(files):
    _, decode = artifacts(files, "int4")
    inputs = {i.name: (i.type, i.shape) for i in decode.get_inputs()}
    rows = [LAYERS, "batch", GROUPS, "past"]
    assert inputs["past_k"] == ("tensor(uint8)", [*rows, SIZE // 2])
    assert inputs["past_v_scale"] == ("tensor(float)", rows)
    infos = CacheInfo("int4", "present_k", "present_k_scale", "past_k", "past_k_scale")
    assert decode.caches[0] == infos
    bad = {CACHES_KEY: '[{"format": "int4"}]'}
    with pytest.raises(ManifestError, match=r"metadata\.tilewright\.kv_cache: .*present"):
        cache_infos(bad)


def test_verify_says_that_it_compares_no_codes(files, capsys, monkeypatch):
    list(artifacts(files, "int8"))
    monkeypatch.chdir(files)
    message = refused(capsys, "verify", "decode.onnx", "decode-int8.tw")
    assert message == (
        "decode-int8.tw: has key-value caches in codes\n"
        "  output 'present_k' is in int8\n"
        "  try: compile with --calibrate to have the error measured, or without --kv-cache"
    )


def test_a_past_of_nothing(files):
    """Decoding from the first token on gives what a prefill gives."""
    path = files / "empty.tw"
    options = {"kv_cache": "int8", "dims": {"past": "0..100"}, "jobs": 0}
    tilewright.compile(files / "decode.onnx", path, **options)
    _, *wanted = reference(files, "prefill").run(None, {"ids": IDS[:, :3]})
    with tilewright.load(path, threads=1) as session:
        rows = (LAYERS, 2, GROUPS, 0)
        feeds = {f"past_{p}": np.zeros((*rows, SIZE), np.int8) for p in "kv"}
        feeds |= {f"past_{p}_scale": np.zeros(rows, np.float32) for p in "kv"}
        links = [pair for cache in session.caches for pair in cache.links]
        names = [o.name for o in session.get_outputs()]
        for at in range(3):
            found = session.run(None, {**feeds, "ids": IDS[:, at : at + 1]})
            outputs = dict(zip(names, found, strict=True))
            feeds = {past: outputs[present] for present, past in links}
    for part, rows in zip("kv", wanted, strict=True):
        stored = outputs[f"present_{part}"], outputs[f"present_{part}_scale"]
        assert error(CACHES["int8"].decode(*stored), rows) < 0.02


def plan_of(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("plan.json"))


def contract(files, bound, name):
    path = files / "contract.tw"
    made = tilewright.compile(
        files / "decode.onnx", path, kv_cache=name, calibrate=str(files / "feeds"),
        max_error=bound, jobs=0,
    )  # fmt: skip
    return made, plan_of(path)["contract"]


def test_a_contract_counts_caches_and_names_them(files):
    _, record = contract(files, 0.02, "int8")
    assert record["outputs"] == ["logits", "present_k", "present_v"]
    caches = record["kv_cache"]
    assert caches["format"] == "int8"
    assert caches["stored"].keys() == {"present_k", "present_v"}
    assert all(0.002 < e < 0.01 for e in caches["stored"].values())
    logits, *others = caches["alone"]
    assert 1e-4 < logits < 0.02
    assert max(others) < 1e-3
    assert max(record["measured"]) <= 0.02
    assert record["predicted"][0] >= logits * 0.999
    # Measured once more, by hand: caches of f32 are stored before they are fed.
    session, off, whole = reference(files, "decode"), 0.0, 0.0
    with tilewright.load(files / "contract.tw", threads=1) as ours:
        for i in (3, 7):  # held out
            feeds = dict(np.load(files / "feeds" / f"{i}.npz"))
            (wanted,) = session.run(["logits"], feeds)
            given = {"ids": feeds["ids"]}
            for part in ("past_k", "past_v"):
                given[part], given[f"{part}_scale"] = CACHES["int8"].encode(feeds[part])
            (found,) = ours.run(["logits"], given)
            off += float(np.sum((found - wanted) ** 2))
            whole += float(np.sum(wanted**2))
    assert record["measured"][0] == pytest.approx(np.sqrt(off / whole), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("bound", "chosen"), [(0.4, "int4"), (0.02, "int8"), (1e-4, None)])
def test_auto_takes_the_fewest_bytes_that_keep_the_bound(files, bound, chosen):
    _, record = contract(files, bound, "auto")
    assert record.get("kv_cache", {}).get("format") == chosen
    assert max(record["measured"]) <= bound


def test_a_bound_that_caches_break_alone_is_refused(files):
    with pytest.raises(UserError) as refusal:
        contract(files, 1e-3, "int4")
    lines = str(refusal.value).splitlines()
    assert lines[0] == "max-error 0.001: cannot be kept"
    assert lines[1].startswith("  int4 key-value caches alone make an error of 0.0")
    assert lines[1].endswith(" on the samples")
    assert lines[2] == "  try: take --kv-cache int8 or auto, or leave it away"


def refusal(capsys, folder, monkeypatch, model, *words):
    monkeypatch.chdir(folder)
    onnx.save(model, folder / "m.onnx")
    message = refused(capsys, "compile", "m.onnx", "-o", "out.tw", *words)
    assert not (folder / "out.tw").exists()
    return message


def test_a_model_without_caches_is_refused(capsys, tmp_path, monkeypatch):
    model = decoder_model(past=False)
    del model.graph.output[1:]
    message = refusal(capsys, tmp_path, monkeypatch, model, "--kv-cache", "int8")
    assert message == (
        "kv-cache int8: the model has no key-value caches\n"
        "  expected outputs whose rows attention reads as keys or values, found"
        " logits f32[batch, seq, 40]\n"
        "  try: export the model with past and present keys and values, or leave --kv-cache away"
    )


def test_rows_without_a_hadamard_matrix_are_refused(capsys, tmp_path, monkeypatch):
    model = decoder_model(past=True, size=12)
    message = refusal(capsys, tmp_path, monkeypatch, model, "--kv-cache", "int4")
    assert message == (
        "kv-cache int4: rows of output 'present_k' have no Hadamard matrix\n"
        "  expected a head size that a power of two of at least 8 divides, found 12, which 4"
        " divides at most\n"
        "  try: take --kv-cache int8"
    )


def test_caches_that_are_read_otherwise_are_refused(capsys, tmp_path, monkeypatch):
    model = decoder_model(past=True, extra="read")
    message = refusal(capsys, tmp_path, monkeypatch, model, "--kv-cache", "int8")
    assert message == (
        "kv-cache int8: input 'past_k' is read as more than a cache\n"
        "  node 'node_extra' takes its values\n"
        "  try: leave --kv-cache away"
    )


def test_auto_needs_samples(capsys, tmp_path, monkeypatch):
    model = decoder_model(past=True)
    message = refusal(capsys, tmp_path, monkeypatch, model, "--kv-cache", "auto")
    assert message == (
        "kv_cache auto: needs calibration samples\n"
        "  the format is chosen by the error that it makes on samples\n"
        "  try: give --calibrate SAMPLES, or --kv-cache int8 or int4"
    )


def test_an_unknown_format_is_refused(files):
    with pytest.raises(UserError) as refusal:
        tilewright.compile(files / "decode.onnx", files / "no.tw", kv_cache="int5")
    assert str(refusal.value) == (
        "kv_cache 'int5': there is no such cache format\n  try: did you mean 'int8'?"
    )
