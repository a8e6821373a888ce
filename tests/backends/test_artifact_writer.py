"""The .tw writer: valid for other tools, reproducible, all or nothing."""

import dataclasses
import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import zipfile

import ml_dtypes
import numpy as np
import pytest

from tilewright.backends.artifact import block_file, writer, zip_stream
from tilewright.backends.artifact.safetensors import TensorSpec, plan_weights
from tilewright.backends.artifact.writer import ArtifactWriteError, write_artifact
from tilewright.compiler.errors import UserError
from tilewright.runtime.container import read_entries, verify_checksums
from tilewright.runtime.manifest import Manifest, TensorInfo, Variant

RNG = np.random.default_rng(0)
WEIGHTS = {
    "a": ("u8", RNG.integers(0, 256, 7, np.uint8)),
    "b": ("f32", RNG.standard_normal((3, 5), np.float32)),
    "c": ("bf16", RNG.standard_normal(9).astype(ml_dtypes.bfloat16)),
    "empty": ("f32", np.zeros((0, 3), np.float32)),
    "scalar": ("i64", np.array(5)),
    "transposed": ("f32", RNG.standard_normal((4, 6), np.float32).T),
}
LAYOUT = plan_weights([TensorSpec(name, t, array.shape) for name, (t, array) in WEIGHTS.items()])
CODE = {"model.x86-64-v2.so": b"code" * 1000}
MANIFEST = Manifest(
    producer="test",
    name="m",
    inputs=(TensorInfo("x", "f32", ("n",)),),
    outputs=(),
    variants=(Variant("x86-64-v2", "model.x86-64-v2.so"),),
    weights_base=LAYOUT.base,
)


def weights():
    return ((name, array) for name, (_, array) in WEIGHTS.items())


def write(path, **changes):
    arguments = {"manifest": MANIFEST, "code": CODE, "layout": LAYOUT, "weights": weights()}
    write_artifact(path, **{**arguments, **changes})
    return path


def test_other_tools_read_it(tmp_path):
    safetensors = pytest.importorskip("safetensors")
    path = write(tmp_path / "m.tw", plan=b'{"plan": 1}')
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.read("model.x86-64-v2.so") == CODE["model.x86-64-v2.so"]
        assert archive.read("plan.json") == b'{"plan": 1}'
        stored = dict(safetensors.deserialize(archive.read("weights.safetensors")))
    for name, (_, array) in WEIGHTS.items():
        assert bytes(stored[name]["data"]) == array.tobytes()
        assert stored[name]["shape"] == list(array.shape)
    assert [stored[name]["dtype"] for name in ("a", "b", "c")] == ["U8", "F32", "BF16"]
    if shutil.which("unzip"):
        done = subprocess.run(["unzip", "-t", str(path)], capture_output=True, text=True)
        assert "No errors detected" in done.stdout


def test_every_entry_is_page_aligned_and_every_tensor_64_byte_aligned(tmp_path):
    data = write(tmp_path / "m.tw").read_bytes()
    entries = read_entries("m.tw", memoryview(data))
    assert all(entry.offset % 4096 == 0 for entry in entries.values())
    start = entries["weights.safetensors"].offset + LAYOUT.base
    for name, (_, array) in WEIGHTS.items():
        at = start + LAYOUT.offsets[name]
        assert at % 64 == 0
        assert data[at : at + array.nbytes] == array.tobytes()


def test_the_same_content_gives_the_same_bytes(tmp_path):
    first, second = write(tmp_path / "a.tw"), write(tmp_path / "b.tw")
    assert first.read_bytes() == second.read_bytes()


def test_rights_are_those_of_a_new_file(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    assert write(tmp_path / "m.tw").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("limit", [1, 300, 5000, 20_000])
def test_zip64_fields(tmp_path, monkeypatch, limit):
    """Numbers that do not fit 32 bits, tried by lowering the limit."""
    monkeypatch.setattr(zip_stream, "ZIP64_LIMIT", limit)
    data = write(tmp_path / "m.tw").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
    view = memoryview(data)
    verify_checksums("m.tw", view, read_entries("m.tw", view))


@pytest.mark.parametrize("most", [1 << 30, 1000])
def test_writes_are_whole_aligned_blocks(monkeypatch, most):
    """Whatever the sizes of the parts, and where the system takes less than it is given."""
    monkeypatch.setattr(block_file, "BLOCK", 4096)
    sizes = (1, 4095, 3, 10_000, 0, 8192, 5000)
    parts = [RNG.integers(0, 256, size, np.uint8).tobytes() for size in sizes]
    writes = []

    class Raw(io.BytesIO):
        def write(self, data):
            writes.append((self.tell(), len(data)))
            return super().write(data[:most])

    raw = Raw()
    out = block_file.BlockFile(raw)
    for part in parts:
        assert out.write(memoryview(part)) == len(part)
    assert out.tell() == sum(sizes)
    out.flush()
    assert raw.getvalue() == b"".join(parts)
    if most > 4096:
        assert writes == [(at, min(4096, sum(sizes) - at)) for at in range(0, sum(sizes), 4096)]
    out.seek(2)
    out.write(b"xyz")
    out.seek(sum(sizes))
    out.write(b"end")
    out.flush()
    expected = b"".join(parts)
    assert raw.getvalue() == expected[:2] + b"xyz" + expected[5:] + b"end"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(tmp_path, monkeypatch, code):
    path = tmp_path / "m.tw"
    path.write_bytes(b"what was there before")

    class FullFile(io.FileIO):
        def write(self, data):
            if self.tell() > 5000:
                raise OSError(code, os.strerror(code))
            return super().write(data)

    monkeypatch.setattr(writer.os, "fdopen", lambda fd, mode, _: FullFile(fd, mode))
    with pytest.raises(ArtifactWriteError) as error:
        write(path)
    hint = {
        errno.ENOSPC: "free space on the file system, or write to another one",
        errno.EDQUOT: "free space in your quota, or write to another file system",
    }[code]
    assert str(error.value) == (
        f"{path}: the artifact cannot be written\n"
        f"  it needs {error.value.bytes_needed} bytes; the system says: {os.strerror(code)}\n"
        f"  try: {hint}"
    )
    assert isinstance(error.value, UserError)
    assert os.listdir(tmp_path) == ["m.tw"]
    assert path.read_bytes() == b"what was there before"


def test_a_folder_that_does_not_exist(tmp_path):
    path = tmp_path / "no" / "m.tw"
    with pytest.raises(ArtifactWriteError) as error:
        write(path)
    assert str(error.value) == (
        f"{path}: the artifact cannot be written\n"
        f"  it needs {error.value.bytes_needed} bytes; the system says: No such file or directory\n"
        "  try: create the folder first"
    )


def test_a_folder_without_write_permission(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "import test_artifact_writer as t\n"
        "import os\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: t.write(sys.argv[1])\n"
        "except t.ArtifactWriteError as error: print(error)\n"
    )
    path = folder / "m.tw"
    tmp_path.chmod(0o755)
    for parent in list(path.parents)[1:4]:
        if not os.access(parent, os.X_OK):
            pytest.skip("the temporary folder is not reachable for another user")
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), os.path.dirname(__file__)],
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == f"{path}: the artifact cannot be written"
    assert lines[1].endswith("the system says: Permission denied")
    assert lines[2] == "  try: choose a folder that you may write to"


def test_a_killed_write_leaves_no_tw_file(tmp_path):
    path = tmp_path / "m.tw"

    def killing():
        for name, array in weights():
            if name == "transposed":
                os.kill(os.getpid(), signal.SIGKILL)
            yield name, array

    child = os.fork()
    if child == 0:
        write(path, weights=killing())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = os.listdir(tmp_path)
    assert not path.exists()
    assert all(name.startswith(".m.tw.") and name.endswith(".partial") for name in left)
    write(path)
    assert zipfile.ZipFile(path).testzip() is None


def test_weights_are_asked_for_one_at_a_time(tmp_path):
    alive = []

    def tracked():
        for name, array in weights():
            alive.append(name)
            yield name, array
            assert alive.pop() == name

    write(tmp_path / "m.tw", weights=tracked())
    assert alive == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"weights": iter([])},
            "expected weight 'a' of 7 bytes, was given '' of 0 bytes",
        ),
        (
            {"weights": iter([("a", b"123")])},
            "expected weight 'a' of 7 bytes, was given 'a' of 3 bytes",
        ),
        (
            {"weights": [*weights(), ("more", b"")]},
            "weight 'more' is not in the layout",
        ),
        (
            {"code": {"other.so": b""}},
            "the manifest names code ['model.x86-64-v2.so'], given is ['other.so']",
        ),
        (
            {"manifest": dataclasses.replace(MANIFEST, weights_base=1)},
            f"the manifest's weights_base is 1, the layout's {LAYOUT.base}",
        ),
    ],
)
def test_parts_that_do_not_fit_each_other(tmp_path, change, message):
    with pytest.raises(ValueError) as error:
        write(tmp_path / "m.tw", **change)
    assert str(error.value) == message
    assert os.listdir(tmp_path) == []


def test_weight_names():
    one = TensorSpec("a", "f32", (1,))
    with pytest.raises(ValueError, match=r"^weight name 'a' is reserved or occurs twice$"):
        plan_weights([one, one])
    with pytest.raises(ValueError, match=r"^weight name '__x' is reserved or occurs twice$"):
        plan_weights([TensorSpec("__x", "f32", (1,))])
    with pytest.raises(ValueError, match=r"^weight 'q': no safetensors type for 'i4'$"):
        plan_weights([TensorSpec("q", "i4", (1,))])
