"""Session: results, the onnxruntime shape, every message in full."""

import dataclasses
import gc
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support.tiny_artifact import MANIFEST, expected, write_tiny

import tilewright.runtime
from tilewright.runtime import ArtifactError, ExecutionError, FeedError
from tilewright.runtime.loader import open_artifact
from tilewright.runtime.manifest import TensorInfo

SEE = "\n  try: see get_inputs() for names, types and shapes"


def feeds(seq=7, seed=0):
    rng = np.random.default_rng(seed)
    x, b = rng.standard_normal((seq, 4), np.float32), rng.standard_normal(seq, np.float32)
    return {"x": x, "b": b}


def check(outputs, given):
    want = expected(given["x"], given["b"])
    np.testing.assert_array_equal(outputs[0], want[0])
    np.testing.assert_array_equal(outputs[1], want[1])
    assert (outputs[0].dtype, outputs[1].dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_results_for_any_size_and_thread_count(artifact, threads):
    with tilewright.runtime.load(artifact, threads=threads) as session:
        for seq in (1, 0, 7, 4096, 3):
            given = feeds(seq)
            check(session.run(None, given), given)
        assert session.arena_bytes == 4096 * 16


def test_outputs_by_name(session):
    given = feeds()
    want = expected(**given)
    kept, y = session.run(["kept", "y"], given)
    np.testing.assert_array_equal(y, want[0])
    np.testing.assert_array_equal(kept, want[1])
    assert len(session.run([], given)) == 2
    assert session.run(["y"], given, None)[0].shape == (7, 4)


def test_arrays_that_are_not_contiguous_are_copied(session):
    given = feeds()
    backwards = {"x": given["x"][::-1, ::-1][::-1, ::-1], "b": np.repeat(given["b"], 2)[::2]}
    check(session.run(None, backwards), given)
    check(session.run(None, {"x": np.asfortranarray(given["x"]), "b": given["b"]}), given)
    unaligned = np.frombuffer(b"\0" + given["b"].tobytes(), np.uint8)[1:].view(np.float32)
    check(session.run(None, {"x": given["x"], "b": unaligned}), given)


def test_nodes_and_metadata(session):
    (x, b), (y, kept) = session.get_inputs(), session.get_outputs()
    assert (x.name, x.type, x.shape) == ("x", "tensor(float)", ["seq", 4])
    assert (b.name, b.type, b.shape) == ("b", "tensor(float)", ["seq"])
    assert (y.name, y.type, y.shape) == ("y", "tensor(float)", ["seq", 4])
    assert (kept.name, kept.type, kept.shape) == ("kept", "tensor(int64)", ["n_kept"])
    meta = session.get_modelmeta()
    assert meta.graph_name == "tiny"
    assert meta.custom_metadata_map == {"task": "testing"}
    assert session.get_providers() == ["Tilewright[x86-64-v2]"]


def test_profile_counts_every_launch(session):
    rows = session.profile(feeds(64), runs=5)
    assert {row.name: row.calls for row in rows} == {"scale": 5, "keep": 5}
    scale = next(row for row in rows if row.name == "scale")
    assert scale.source == "Mul_0, Add_1"
    assert scale.ms > 0
    assert scale.gflops == pytest.approx(8 * 64 * 5 / (scale.ms * 1e6))
    assert scale.gbs == pytest.approx((32 * 64 + 16) * 5 / (scale.ms * 1e6))
    keep = next(row for row in rows if row.name == "keep")
    assert keep.gbs is None  # its bytes depend on data
    check(session.run(None, feeds()), feeds())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"b": None}, ": input 'b' is missing\n  the model has 2 inputs, the feeds have 'x'" + SEE),
        ({"bb": np.zeros(7)}, ": unknown input 'bb'\n  did you mean 'b'?" + SEE),
        ({"mask": np.zeros(7)}, ": unknown input 'mask'\n  known: 'b', 'x'" + SEE),
        (
            {"b": [1.0]},
            (
                ": input 'b': not a numpy array\n  expected an array of float32, found list\n"
                "  try: numpy.asarray(value, dtype='float32')"
            ),
        ),
        (
            {"b": np.zeros(7)},
            (
                ": input 'b': wrong element type\n  expected float32, found float64\n"
                "  try: array.astype('float32')"
            ),
        ),
        (
            {"b": np.zeros(7, ">f4")},
            (
                ": input 'b': wrong element type\n  expected float32, found >f4\n"
                "  try: array.astype('float32')"
            ),
        ),
        (
            {"b": np.zeros((7, 1), np.float32)},
            (
                ": input 'b': wrong number of dimensions\n  expected 1, (seq,); found 2, (7, 1)\n"
                "  try: reshape the array"
            ),
        ),
        (
            {"x": np.zeros((7, 5), np.float32)},
            (
                ": input 'x': wrong size of axis 1\n"
                "  expected 4, in shape (seq, 4); found 5, in shape (7, 5)\n"
                "  try: reshape or pad the array"
            ),
        ),
        (
            {"b": np.zeros(8, np.float32)},
            (
                ": dimension 'seq' has two sizes\n"
                "  axis 0 of input 'x' has 7, axis 0 of input 'b' has 8\n"
                "  try: give inputs of one common size"
            ),
        ),
        (
            {"x": np.zeros((5000, 4), np.float32), "b": np.zeros(5000, np.float32)},
            (
                ": dimension 'seq' is out of bounds\n"
                "  expected 0 to 4096, found 5000, axis 0 of input 'x'\n"
                "  try: give smaller or larger inputs, or compile with other bounds"
            ),
        ),
    ],
)
def test_wrong_feeds(session, artifact, change, message):
    given = {k: v for k, v in {**feeds(), **change}.items() if v is not None}
    with pytest.raises(FeedError) as error:
        session.run(None, given)
    assert str(error.value) == artifact + message
    check(session.run(None, feeds()), feeds())


def test_feeds_that_are_no_mapping(session, artifact):
    with pytest.raises(FeedError) as error:
        session.run(None, [feeds()["x"]])
    assert str(error.value) == (
        f"{artifact}: the feeds are not a mapping\n"
        "  expected a dict from input names to arrays, found list\n"
        "  try: run(None, {'name': array})"
    )


def test_unknown_output(session, artifact):
    with pytest.raises(FeedError) as error:
        session.run(["keep"], feeds())
    assert str(error.value) == (
        f"{artifact}: unknown output 'keep'\n  did you mean 'kept'?\n"
        "  try: see get_outputs() for the names"
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (2e6, ": node 'scale': the value is too large\n  status 16 of tw_run"),
        (
            -2e6,
            (
                ": an input value is not valid for the model: index out of range or failed guard\n"
                "  status 3 of tw_run"
            ),
        ),
    ],
)
def test_errors_of_the_model(session, artifact, value, message):
    given = feeds()
    given["x"][3, 0] = value
    with pytest.raises(ExecutionError) as error:
        session.run(None, given)
    assert str(error.value) == artifact + message + "\n  try: check the values of the inputs"
    check(session.run(None, feeds()), feeds())


def test_shapes_that_only_the_model_can_check(code, tmp_path):
    tensors = (TensorInfo("x", "f32", ("seq", "columns")), TensorInfo("b", "f32", ("rows",)))
    manifest = dataclasses.replace(MANIFEST, inputs=tensors)
    path = write_tiny(str(tmp_path / "m.tw"), code, manifest)
    session = tilewright.runtime.load(path, threads=1)
    with pytest.raises(FeedError) as error:
        session.run(None, {"x": np.zeros((3, 5), np.float32), "b": np.zeros(4, np.float32)})
    assert str(error.value) == (
        f"{path}: input shapes conflict with each other or lie outside of the model's bounds\n"
        "  the inputs have shapes (3, 5), (4,)\n"
        "  try: see get_inputs() for the shapes that the model takes"
    )


def test_derived_dims(code, tmp_path):
    tensors = (TensorInfo("x", "f32", ("seq", 4)), TensorInfo("b", "f32", ("2*seq - seq",)))
    manifest = dataclasses.replace(MANIFEST, inputs=tensors)
    path = write_tiny(str(tmp_path / "m.tw"), code, manifest)
    session = tilewright.runtime.load(path, threads=1)
    check(session.run(None, feeds()), feeds())
    with pytest.raises(FeedError) as error:
        session.run(None, {"x": np.zeros((3, 4), np.float32), "b": np.zeros(4, np.float32)})
    assert str(error.value) == (
        f"{path}: axis 0 of input 'b' has the wrong size\n"
        "  expected 2*seq - seq = 3 (with seq = 3), found 4\n"
        "  try: give inputs whose sizes fit each other"
    )


def test_close(artifact):
    session = tilewright.runtime.load(artifact, threads=2)
    before = len(os.listdir("/proc/self/task"))
    session.close()
    session.close()
    assert len(os.listdir("/proc/self/task")) == before - 1
    with pytest.raises(ExecutionError) as error:
        session.run(None, feeds())
    assert str(error.value) == (
        f"{artifact}: the session is closed\n  try: load the artifact again"
    )


def test_a_dropped_session_frees_its_threads(artifact):
    before = len(os.listdir("/proc/self/task"))
    tilewright.runtime.load(artifact, threads=4)
    gc.collect()
    assert len(os.listdir("/proc/self/task")) == before


def test_wrong_thread_count(artifact):
    with pytest.raises(ValueError, match=r"^threads: expected None or at least 1, found 0$"):
        tilewright.runtime.load(artifact, threads=0)


def test_runs_from_several_threads_take_turns(session):
    failures = []

    def work(seed):
        for i in range(50):
            given = feeds(1 + (seed * 31 + i) % 90, seed)
            try:
                check(session.run(None, given), given)
            except BaseException as failure:
                failures.append(failure)
                raise

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert failures == []


def test_a_forked_child_can_run_and_exit(session):
    session.run(None, feeds())
    child = os.fork()
    if child == 0:
        try:
            check(session.run(None, feeds()), feeds())
            session.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_sessions_share_one_mapping_of_the_file(artifact):
    first = tilewright.runtime.load(artifact, threads=1)
    second = tilewright.runtime.load(artifact, threads=1)
    maps = Path("/proc/self/maps").read_text()
    assert maps.count(artifact) == 1
    assert re.search(rf"r--s .*{artifact}", maps)
    assert open_artifact(artifact) is open_artifact(artifact)
    given = feeds()
    first.close()
    check(second.run(None, given), given)


def test_another_model_at_the_same_descriptor_is_not_confused(code, tmp_path):
    """dlopen compares paths; a reused /proc/self/fd/N must not give the old code."""
    codes = [code, code.replace(b"too large", b"TOO LARGE")]
    for index in range(6):
        path = write_tiny(str(tmp_path / f"{index}.tw"), codes[index % 2])
        session = tilewright.runtime.load(path, threads=1)
        given = feeds()
        given["x"][0, 0] = 2e6
        with pytest.raises(ExecutionError, match=("too large", "TOO LARGE")[index % 2]):
            session.run(None, given)
        session.close()
        del session
        gc.collect()


def test_a_replaced_artifact_is_seen(code, tmp_path):
    path = write_tiny(str(tmp_path / "m.tw"), code)
    old = tilewright.runtime.load(path, threads=1)
    write_tiny(path, code, dataclasses.replace(MANIFEST, name="newer"))
    new = tilewright.runtime.load(path, threads=1)
    assert (old.get_modelmeta().graph_name, new.get_modelmeta().graph_name) == ("tiny", "newer")
    check(old.run(None, feeds()), feeds())


def test_loading_by_relative_path_from_another_folder(artifact, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    session = tilewright.runtime.load(os.path.relpath(artifact, tmp_path), threads=1)
    check(session.run(None, feeds()), feeds())


def test_it_runs_without_the_compiler_and_its_packages(artifact):
    """In a fresh interpreter only numpy and the standard library are imported."""
    program = (
        "import sys, numpy as np, tilewright.runtime as rt\n"
        f"s = rt.load({artifact!r}, threads=2)\n"
        "s.run(None, {'x': np.ones((3, 4), 'f'), 'b': np.ones(3, 'f')})\n"
        "foreign = [m for m in sys.modules if m.split('.')[0] in\n"
        "  ('llvmlite', 'onnx', 'onnxruntime', 'scipy', 'click', 'rich', 'ml_dtypes')\n"
        "  or m.startswith(('tilewright.compiler', 'tilewright.backends', 'tilewright.passes'))]\n"
        "assert not foreign, foreign\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_missing_file():
    with pytest.raises(ArtifactError) as error:
        tilewright.runtime.load("no/such/model.tw")
    assert str(error.value) == (
        "no/such/model.tw: the artifact cannot be read\n"
        "  the system says: No such file or directory\n"
        "  try: check the path and its permissions"
    )
