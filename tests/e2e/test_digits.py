"""The shipped demo model from ONNX file to answers, and everything a session offers."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import tilewright
from tilewright.backends import reference
from tilewright.compiler.driver import CompileResult, compile_model
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.options import Options
from tilewright.runtime.cpu import host_features
from tilewright.tools import demo

IMAGES, LABELS = demo.test_split()


def relative(found: np.ndarray, want: np.ndarray) -> float:
    """Relative L2 error."""
    return float(np.linalg.norm(found.astype(np.float64) - want) / np.linalg.norm(want))


def answers(path: Path, threads: int = 1, **options) -> np.ndarray:
    with tilewright.load(path, threads=threads, **options) as session:
        return session.run(None, {"image": IMAGES})[0]


def test_accuracy_and_error(digits: Path) -> None:
    graph = load_onnx(demo.model_path(), {})
    (want,) = reference.run(graph, {"image": IMAGES}, precision="f64")
    peer = ort.InferenceSession(str(demo.model_path()), providers=["CPUExecutionProvider"])
    (theirs,) = peer.run(None, {"image": IMAGES})
    ours = answers(digits)
    assert (ours.argmax(axis=1) == LABELS).mean() >= 0.98
    assert relative(ours, want) <= max(1e-6, 2 * relative(theirs, want))


@pytest.mark.parametrize("count", [1, 2, 7, 64, 450])
def test_a_row_does_not_depend_on_its_batch(digits: Path, count: int) -> None:
    with tilewright.load(digits, threads=2) as session:
        (found,) = session.run(["logits"], {"image": IMAGES[:count]})
    np.testing.assert_allclose(found, answers(digits)[:count], rtol=1e-5, atol=1e-5)


def test_threads_do_not_change_a_bit(digits: Path) -> None:
    one = answers(digits)
    for threads in (2, 4, 3):
        for _ in range(3):
            assert answers(digits, threads).tobytes() == one.tobytes()


SCRIPT = """
import sys
from tilewright.compiler.driver import compile_model
from tilewright.compiler.options import Options
from tilewright.tools import demo
compile_model(demo.model_path(), sys.argv[1], Options(jobs=int(sys.argv[2])))
"""


def test_two_processes_write_the_same_bytes(digits: Path, tmp_path: Path) -> None:
    """Another hash seed, no worker processes, another folder: the same file."""
    again = tmp_path / "again.tw"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(again), "0"],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert again.read_bytes() == digits.read_bytes()


TARGETS = {"x86-64-v2": set(), "x86-64-v3": {"avx2", "fma"}, "x86-64-v4": {"avx512f"}}


def test_one_artifact_for_several_targets(digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "many.tw"
    compile_model(demo.model_path(), path, Options(targets=tuple(TARGETS)))
    want = answers(digits)
    ran = []
    for target, needed in TARGETS.items():
        if needed <= host_features():
            with tilewright.load(path, threads=1, variant=target) as session:
                assert session.variant == target
                (found,) = session.run(None, {"image": IMAGES})
            np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)
            ran.append(target)
    assert ran, "this machine runs none of the targets"
    with tilewright.load(path) as session:
        assert session.variant == ran[-1], "the best one is chosen"


def test_from_another_folder_and_from_a_read_only_one(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = answers(digits)
    folder = tmp_path / "ro"
    folder.mkdir()
    shutil.copy(digits, folder / "m.tw")
    (folder / "m.tw").chmod(0o444)
    folder.chmod(0o555)
    monkeypatch.chdir(folder)
    try:
        assert answers(Path("m.tw")).tobytes() == want.tobytes()
        assert [p.name for p in folder.iterdir()] == ["m.tw"], "loading writes nothing"
    finally:
        folder.chmod(0o755)


def mappings(path: Path) -> list[tuple[str, str]]:
    """(address range, permissions) of this process's mappings of a file."""
    rows = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    return [(r[0], r[1]) for r in rows if len(r) > 5 and r[5] == str(path.resolve())]


def test_sessions_share_the_weights(digits: Path) -> None:
    """Both map the file itself, read-only, so that the pages are the page cache's."""
    with tilewright.load(digits) as first:
        before = mappings(digits)
        with tilewright.load(digits) as second:
            after = mappings(digits)
            feeds = {"image": IMAGES[:5]}
            assert first.run(None, feeds)[0].tobytes() == second.run(None, feeds)[0].tobytes()
    assert before
    assert len(after) >= len(before)
    assert all("w" not in permissions for _, permissions in after)


def test_bound_arrays_are_used_in_place(digits: Path) -> None:
    with tilewright.load(digits, threads=1) as session:
        binding = session.bind()
        image, logits = np.array(IMAGES[:3]), np.full((3, 10), np.nan, np.float32)
        binding.bind_input("image", image)
        binding.bind_output("logits", logits)
        (found,) = binding.run()
        assert found is logits
        first = logits.copy()
        image[:] = IMAGES[3:6]
        binding.run()
        # The same rows in the same batch: which products are used may depend on the batch's size.
        (again,) = session.run(None, {"image": IMAGES[3:6]})
        np.testing.assert_array_equal(logits, again)
        assert not np.array_equal(first, logits)


def test_profile_has_a_row_for_every_launch(digits: Path, digits_result: CompileResult) -> None:
    launches = digits_result.variants[0].launches
    with tilewright.load(digits, threads=1) as session:
        rows = session.profile({"image": IMAGES[:8]}, runs=3)
    assert len(rows) == len(launches)
    assert {row.source for row in rows} == {launch.source for launch in launches}
    assert all(row.calls == 3 for row in rows)
    assert all(row.ms > 0 for row in rows)


def test_the_result_tells_what_was_done(digits_result: CompileResult) -> None:
    assert list(digits_result.seconds) == ["import", "passes", "lower", "codegen", "package"]
    assert digits_result.bytes == digits_result.path.stat().st_size
    labels = [launch.label for launch in digits_result.variants[0].launches]
    assert sum(label.endswith(("_conv", "_winograd")) for label in labels) == 3
    assert all(step.seconds >= 0 for step in digits_result.steps)
