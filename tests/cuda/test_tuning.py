"""Tuning for GPUs: measured on a stand-in for the driver, refused where there is no GPU."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support import fake_cuda
from support.command_line import call, refused

from tilewright.backends.kernels.candidates import candidates
from tilewright.backends.kernels.registry import families
from tilewright.backends.kernels.tasks import MatmulTask
from tilewright.backends.llvm.epilogue import IDENTITY
from tilewright.backends.target import lookup
from tilewright.backends.tuning import cache, device
from tilewright.backends.tuning.cache import Cache, Measurements, Shipped, record, row_key
from tilewright.backends.tuning.sources import kernel_version
from tilewright.tools import demo

MODEL = demo.model_path()
WORDS = ("tune", MODEL, "--target", "sm_80", "--jobs", "1", "--typical", "batch=2")


class Every(dict):
    """Kernels that do nothing, under any name."""

    def __contains__(self, name) -> bool:
        return True

    def __getitem__(self, name):
        return (lambda: None), 0


@pytest.fixture
def gpu(fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fake_cuda, "KERNELS", Every())
    monkeypatch.setattr(device, "COLD_BYTES", 1 << 20)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return fake


def rivals():
    target = lookup("sm_80")
    task = MatmulTask(64, 32, IDENTITY)
    return target, task, candidates(task, target, 1e-2)[:3]


def codes(found, target) -> bytes:
    return b"".join(device.cubin(c.family, c.spec, i, target) for i, c in enumerate(found))


def test_kernels_take_turns_in_graphs(gpu) -> None:
    target, task, found = rivals()
    loaded = device.load(found, target, codes(found, target))
    gpu.calls.clear()
    times = device.measure(loaded, found, task, (16, 64, 32), cold=True, budget=0.001)
    # The stand-in says that half a millisecond passes between two events.
    assert times == pytest.approx([0.5e-3 / device.LAUNCHES] * len(found))
    queued = [c for c in gpu.calls if c in ("cuGraphLaunch", "cuEventRecord")]
    assert queued[:3] == ["cuEventRecord", "cuGraphLaunch", "cuEventRecord"]
    assert gpu.calls.count("cuGraphLaunch") >= len(found) * (device.LEAST_ROUNDS + 1)
    assert gpu.calls.count("cuGraphInstantiate") == len(found)
    assert gpu.calls.count("cuLaunchKernelEx") >= len(found) * device.LAUNCHES


def test_a_kernel_that_reports_an_error(gpu, monkeypatch) -> None:
    target, task, found = rivals()
    loaded = device.load(found[:1], target, codes(found[:1], target))
    filled = device._filled
    monkeypatch.setattr(device, "_filled", lambda d, size, zero=False: filled(d, size))
    with pytest.raises(RuntimeError, match="a kernel reported an error while it was measured"):
        device.measure(loaded, found[:1], task, (16, 64, 32), cold=False, budget=0.001)


def test_times_that_ship_are_used_where_nothing_was_measured(tmp_path, monkeypatch) -> None:
    target, _, found = rivals()
    dims = (16, 64, 32)
    time = Shipped(3e-6, kernel_version(found[0], target))
    record(tmp_path / "sm_80.json", target, {row_key(found[0], dims, True): time})
    document = json.loads((tmp_path / "sm_80.json").read_text())
    assert document["rows"][0]["seconds"] == 3e-6
    known = cache.shipped("sm_80", tmp_path)
    monkeypatch.setattr(cache, "shipped", lambda name: known)
    measured = Measurements(Cache(tmp_path / "empty"), target)
    assert measured.seconds(found[0], dims, True) == 3e-6
    assert measured.seconds(found[0], dims, False) is None
    assert measured.seconds(found[1], dims, True) is None


def test_times_that_ship_are_of_the_very_kernel(tmp_path, monkeypatch) -> None:
    target, _, found = rivals()
    one = found[0]
    assert one.family.cuda is not None
    kernel = one.family.cuda(one.spec, target, "kernel")
    same = [replace(kernel), replace(kernel, source=kernel.source.replace(";", "; ", 1))]
    same.append(replace(kernel, entries=(replace(kernel.entries[0], block=(32, 2, 1)),)))
    kinds = [replace(one, family=replace(one.family, cuda=lambda *_, k=k: k)) for k in same]
    versions = [kernel_version(kind, target) for kind in kinds]
    assert len(set(versions)) == 3
    assert versions[0] == kernel_version(one, target)
    key = row_key(one, (16, 64, 32), True)
    monkeypatch.setattr(cache, "shipped", lambda name: {key: Shipped(3e-6, versions[0])})
    measured = Measurements(Cache(tmp_path / "empty"), target)
    taken = [measured.seconds(kind, (16, 64, 32), True) for kind in kinds]
    assert taken == [3e-6, None, None]


def test_times_that_ship_are_whole() -> None:
    known = cache.shipped("sm_90a")
    assert all(family in families() for family, *_ in known)
    assert all(1e-7 < row.seconds < 1e-2 and len(row.kernel) == 16 for row in known.values())


def test_records_of_several_models_add_up(tmp_path, monkeypatch) -> None:
    target, _, found = rivals()
    path, first, second = tmp_path / "sm_80.json", (16, 64, 32), (1, 64, 32)
    keys = [row_key(found[0], dims, True) for dims in (first, second)]
    record(path, target, {keys[0]: Shipped(3e-6, "a")})
    record(path, target, {keys[1]: Shipped(2e-6, "a")})
    both = {keys[0]: Shipped(3e-6, "a"), keys[1]: Shipped(2e-6, "a")}
    assert dict(cache.shipped("sm_80", tmp_path)) == both
    record(path, target, {keys[0]: Shipped(4e-6, "b")})
    rows = json.loads(path.read_text())["rows"]
    assert [(row["seconds"], row["kernel"]) for row in rows] == [(2e-6, "a"), (4e-6, "b")]
    monkeypatch.setattr(cache, "machine", lambda row: "another (compute capability 9.0)")
    record(path, target, {keys[0]: Shipped(5e-6, "b")})
    assert [row["seconds"] for row in json.loads(path.read_text())["rows"]] == [5e-6]


@pytest.mark.slow
def test_the_command_measures_records_and_compiles(gpu, capsys) -> None:
    words = ("--max-error", "1e-2", "--top", "2", "--seconds", "0.001", "--record", "rows.json")
    called = call(capsys, *WORDS, *words, "-o", "m.tw", "--json")
    assert called.status == 0, called.err
    assert called.document["measured"] > 0
    rows = json.loads(Path("rows.json").read_text())
    assert rows["machine"] == "Stand-in (compute capability 9.0)"
    assert len(rows["rows"]) >= called.document["measured"]
    again = call(capsys, *WORDS, *words, "-o", "m.tw", "--json").document
    assert (again["measured"], again["reused"]) == (0, called.document["measured"])


def test_without_a_gpu(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tilewright.tools.tune.why_not_here", lambda target: "no driver: none")
    assert refused(capsys, *WORDS) == (
        "--target sm_80: this machine cannot run its code, so there is nothing to measure\n"
        "  no driver: none\n"
        "  try: tune on a machine with such a GPU; its cache goes with it"
    )
