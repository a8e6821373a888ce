"""Artifacts that are damaged, cut, foreign or forged are refused before any of their code runs."""

import contextlib
import io
import json
import random
import struct
import threading
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.tiny_artifact import MANIFEST

import tilewright.runtime
from tilewright.runtime import ArtifactError, TilewrightError
from tilewright.runtime.loader import _Check, open_artifact
from tilewright.runtime.manifest import CHECKSUMS_FILE

COPY = "\n  try: copy or compile the artifact again"
GIVE = "\n  try: give the path of a .tw file that `tilewright compile` wrote"


def refusal(path, data):
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as error:
        tilewright.runtime.load(path, threads=1)
    text = str(error.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bad.tw"


@pytest.fixture
def whole(artifact):
    return Path(artifact).read_bytes()


def ranges(whole):
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        for info in archive.infolist():
            name, extra = struct.unpack_from("<HH", whole, info.header_offset + 26)
            start = info.header_offset + 30 + name + extra
            yield info.filename, start, info.compress_size


def test_one_flipped_bit_in_each_entry(path, whole):
    seen = []
    for name, start, size in ranges(whole):
        for position in {start, start + size // 2, start + size - 1}:
            changed = bytearray(whole)
            changed[position] ^= 1
            message = f"the artifact is damaged\n  the bytes of entry {name!r} were changed{COPY}"
            assert refusal(path, changed) == message
        seen.append(name)
    assert sorted(seen) == [
        "checksums.json",
        "manifest.json",
        "model.x86-64-v2.so",
        "plan.json",
        "weights.safetensors",
    ]


def test_checksums_can_be_skipped_on_purpose(path, whole):
    changed = bytearray(whole)
    _, start, _size = next(row for row in ranges(whole) if row[0] == "plan.json")
    changed[start] ^= 1
    path.write_bytes(changed)
    session = tilewright.runtime.load(path, threads=1, verify=False)
    assert session.get_modelmeta().graph_name == "tiny"
    with pytest.raises(ArtifactError, match=r"'plan\.json' were changed"):
        tilewright.runtime.load(path, threads=1)


def test_any_flipped_bit_of_the_headers_is_refused_or_harmless(path, whole):
    """A flip may hit padding; then the artifact must still be the same model."""
    directory = whole.index(b"PK\x01\x02")
    places = [*range(directory, len(whole)), *range(46)]
    refused = 0
    for position in places:
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        try:
            session = tilewright.runtime.load(path, threads=1)
        except ArtifactError:
            refused += 1
        else:
            assert session.manifest == MANIFEST
    assert refused > len(places) // 3


def test_cut_files(path, whole):
    for size in (1, 3, 4, 21, 22, 100, 4096, 8192, len(whole) // 2, len(whole) - 1):
        text = refusal(path, whole[:size])
        if size >= 4:
            found = f"the file ends at byte {size} without a ZIP directory"
            assert text == f"the artifact is damaged\n  {found}{COPY}"
        else:
            assert text.startswith("not a tilewright artifact\n  expected a ZIP file")


def test_an_empty_file(path):
    assert refusal(path, b"") == f"not a tilewright artifact\n  the file is empty{GIVE}"


def test_an_onnx_file(path):
    assert refusal(path, b"\x08\x08\x12\x00" * 100) == (
        "not a tilewright artifact\n"
        rf"  expected a ZIP file, found a file that starts with b'\x08\x08\x12\x00'{GIVE}"
    )


def test_a_folder(tmp_path):
    with pytest.raises(ArtifactError) as error:
        tilewright.runtime.load(tmp_path)
    assert "the artifact cannot be read" in str(error.value)


def test_random_bytes(path):
    rng = random.Random(0)
    for size in (10, 1000, 50_000):
        refusal(path, rng.randbytes(size))
        refusal(path, b"PK\x03\x04" + rng.randbytes(size))


def test_spliced_noise_never_escapes_as_another_error(path, whole):
    rng = random.Random(1)
    for _ in range(150):
        changed = bytearray(whole)
        start = rng.randrange(len(whole))
        noise = rng.randbytes(rng.choice((1, 4, 100)))
        changed[start : start + len(noise)] = noise
        path.write_bytes(changed)
        with contextlib.suppress(TilewrightError):
            tilewright.runtime.load(path, threads=1).close()


def test_compressed_entries(path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * 5000)
    assert refusal(path, buffer.getvalue()) == (
        "the artifact is damaged\n"
        f"  entry 'manifest.json' is compressed or encrypted; expected stored bytes{COPY}"
    )


def deflated_plan(whole, text, claimed=None):
    """The artifact with a plan of these bytes, deflated; `claimed`: what its headers say it is."""
    import hashlib

    from tilewright.backends.artifact.zip_stream import ZipStream, deflated

    packed = deflated(text)
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    stream = ZipStream(buffer)
    sums = json.loads(entries.pop(CHECKSUMS_FILE))
    sums["plan.json"] = hashlib.sha256(packed).hexdigest()
    for name in sorted(entries):
        if name == "plan.json":
            stream.add_text(name, text if claimed is None else claimed, packed)
        else:
            stream.add(name, len(entries[name]), [entries[name]])
    listed = json.dumps(sums).encode()
    stream.add(CHECKSUMS_FILE, len(listed), [listed])
    stream.finish()
    return buffer.getvalue()


def test_the_plan_is_deflated(path, whole):
    text = b'{"variants": {}}' * 1000
    path.write_bytes(deflated_plan(whole, text))
    file = open_artifact(path)
    assert bytes(file.read("plan.json")) == text
    with zipfile.ZipFile(path) as archive:
        assert archive.read("plan.json") == text
        assert archive.getinfo("plan.json").compress_size < 100
    tilewright.runtime.load(path, threads=1).close()


@pytest.mark.parametrize("claimed", [b"", b"{}" * 3999, b"{}" * 4001, b"[]" * 4000])
def test_a_plan_that_is_not_what_its_headers_say(path, whole, claimed):
    path.write_bytes(deflated_plan(whole, b"{}" * 4000, claimed))
    tilewright.runtime.load(path, threads=1).close()  # nobody needs it
    with pytest.raises(ArtifactError) as error:
        open_artifact(path).read("plan.json")
    assert str(error.value) == (
        f"{path}: the artifact is damaged\n  entry 'plan.json' cannot be inflated{COPY}"
    )


def test_a_plan_that_is_no_deflate_stream(path, whole):
    data = bytearray(deflated_plan(whole, b"{}" * 4000))
    name, start, size = next(r for r in ranges(bytes(data)) if r[0] == "plan.json")
    data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as error:
        open_artifact(path, verify=False).read(name)
    assert str(error.value) == (
        f"{path}: the artifact is damaged\n  entry 'plan.json' cannot be inflated{COPY}"
    )


def test_a_plain_zip_without_alignment(path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("manifest.json", b"{}")
    assert refusal(path, buffer.getvalue()) == (
        f"the artifact is damaged\n  entry 'manifest.json' does not start on a page boundary{COPY}"
    )


def rebuild(whole, change):
    """The artifact with changed entries and right checksums: what a forger could write."""
    import hashlib

    from tilewright.backends.artifact.zip_stream import ZipStream

    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    change(entries)
    if CHECKSUMS_FILE in entries:
        del entries[CHECKSUMS_FILE]
        sums = {name: hashlib.sha256(data).hexdigest() for name, data in entries.items()}
        entries[CHECKSUMS_FILE] = json.dumps(sums).encode()
    buffer = io.BytesIO()
    stream = ZipStream(buffer)
    for name, data in entries.items():
        stream.add(name, len(data), [data])
    stream.finish()
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["manifest.json", "model.x86-64-v2.so", "weights.safetensors"])
def test_a_missing_entry(path, whole, name):
    data = rebuild(whole, lambda entries: entries.pop(name))
    assert refusal(path, data) == (f"the artifact is damaged\n  entry {name!r} is missing{COPY}")


def test_no_checksums(path, whole):
    data = rebuild(whole, lambda entries: entries.pop(CHECKSUMS_FILE))
    assert refusal(path, data) == (
        f"the artifact is damaged\n  entry 'checksums.json' is missing{COPY}"
    )


def test_an_entry_that_is_not_listed(path, whole):
    at = whole.index(b"PK\x01\x02")
    listed = bytearray(whole)
    _, start, size = next(row for row in ranges(whole) if row[0] == CHECKSUMS_FILE)
    text = json.loads(whole[start : start + size])
    renamed = json.dumps(
        {("plan.jsox" if key == "plan.json" else key): text[key] for key in sorted(text)},
        separators=(",", ":"),
    ).encode()
    assert len(renamed) == size
    listed[start : start + size] = renamed
    crc = struct.pack("<I", zlib.crc32(renamed))
    old = struct.pack("<I", zlib.crc32(whole[start : start + size]))
    listed = bytes(listed).replace(old, crc)
    assert listed.index(b"PK\x01\x02") == at
    assert refusal(path, listed) == (
        f"the artifact is damaged\n  entry 'plan.json' has no checksum{COPY}"
    )


def change_manifest(**fields):
    def change(entries):
        document = json.loads(entries["manifest.json"])
        for name, value in fields.items():
            document[name] = value
        entries["manifest.json"] = json.dumps(document).encode()

    return change


def test_a_later_format(path, whole):
    assert refusal(path, rebuild(whole, change_manifest(format=2))) == (
        "the artifact has another format\n  found format 2; this version reads format 1\n"
        "  try: compile the model again with this version, or run it with the one that wrote it"
    )


def test_a_manifest_that_does_not_fit_the_schema(path, whole):
    data = rebuild(whole, change_manifest(inputs=[{"name": "x", "dtype": "f33", "shape": []}]))
    assert refusal(path, data) == (
        "the artifact's manifest is not valid\n"
        "  inputs[0].dtype: expected one of f32, f64, f16, bf16, f8e4m3fn, f8e4m3fnuz, f8e5m2, "
        "f8e5m2fnuz, f8e8m0, f4e2m1, i8, i16, i32, i64, u8, u16, u32, u64, bool, i4, u4, i2, u2; "
        "found 'f33'\n"
        "  try: compile the artifact again"
    )


def test_weights_beyond_their_entry(path, whole):
    weights = {"file": "weights.safetensors", "base": 1 << 40}
    _, _, size = next(row for row in ranges(whole) if row[0] == "weights.safetensors")
    assert refusal(path, rebuild(whole, change_manifest(weights=weights))) == (
        "the manifest does not fit the weights\n"
        f"  weights.base is {1 << 40}, the entry has {size} bytes\n"
        "  try: compile the artifact again"
    )


def test_code_of_another_abi(path, whole):
    from support.native_code import load_shared_object

    def change(entries):
        code = entries["model.x86-64-v2.so"]
        right, wrong = b"\xb8\x01\x00\x00\x00\xc3", b"\xb8\x07\x00\x00\x00\xc3"  # mov eax, N; ret
        assert code.count(right) == 1
        entries["model.x86-64-v2.so"] = code.replace(right, wrong)
        assert load_shared_object(entries["model.x86-64-v2.so"]).tw_abi() == 7

    assert refusal(path, rebuild(whole, change)) == (
        "the model's code has another ABI\n  expected ABI 1, found 7\n"
        "  try: compile the model again with this version"
    )


def test_large_weights_are_checked_before_they_are_used(path, whole, monkeypatch):
    """Loading goes on while they are hashed; the run waits and refuses."""
    monkeypatch.setattr("tilewright.runtime.loader._HASHED_AT_LOAD", 0)
    (start, size) = next((s, n) for name, s, n in ranges(whole) if name == MANIFEST.weights_file)
    changed = bytearray(whole)
    changed[start + size - 1] ^= 1
    path.write_bytes(changed)
    with tilewright.runtime.load(path, threads=1) as session:
        feeds = {
            i.name: np.zeros([d if isinstance(d, int) else 2 for d in i.shape], np.float32)
            for i in session.get_inputs()
        }
        for _ in range(2):  # the refusal is final
            with pytest.raises(ArtifactError) as error:
                session.run(None, feeds)
            assert str(error.value) == (
                f"{path}: the artifact is damaged\n"
                f"  the bytes of entry 'weights.safetensors' were changed{COPY}"
            )


def test_first_runs_of_several_threads_wait_for_one_check(path, whole, monkeypatch):
    """Both threads are inside the wait at once, and both go on."""
    monkeypatch.setattr("tilewright.runtime.loader._HASHED_AT_LOAD", 0)
    path.write_bytes(whole)
    opened = open_artifact(path)
    together = threading.Barrier(2, timeout=20)
    wait = _Check.wait

    def wait_together(check):
        wait(check)
        together.wait()

    monkeypatch.setattr(_Check, "wait", wait_together)
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(opened.wait_verified) for _ in range(2)]:
            done.result(timeout=30)
