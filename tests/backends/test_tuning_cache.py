"""The cache of measured times: concurrent writers, killed writers, damaged files, what a key is."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tilewright.backends.kernels import f32_matmul, split_matmul
from tilewright.backends.kernels.candidates import Candidate
from tilewright.backends.target import TARGETS
from tilewright.backends.tuning.cache import Cache, Key, Measurements, key_of
from tilewright.backends.tuning.sources import _closure, family_version

KEY = Key("f32_matmul", "0123", "MatmulSpec(k=8, n=32)", (1, 8, 32), "x86-64-v3", "m", True)
WRITER = """
import sys
from pathlib import Path
from tilewright.backends.tuning.cache import Cache, Key
cache = Cache(Path(sys.argv[1]))
print("ready", flush=True)
i = 0
while True:
    for number in range(8):
        key = Key("f", "v", str(number), (number,), "t", "m", True)
        cache.write(key, 1.0 + number + 100.0 * (i % 50))
    i += 1
"""


def test_what_is_written_is_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.read(KEY) is None
    cache.write(KEY, 1.25e-4)
    assert cache.read(KEY) == 1.25e-4
    cache.write(KEY, 2e-4)
    assert Cache(tmp_path).read(KEY) == 2e-4
    assert len(list(tmp_path.rglob("*"))) == 2  # a folder and a file


@pytest.mark.parametrize(
    "change",
    [
        {"family": "bf16_matmul"},
        {"version": "4567"},
        {"spec": "MatmulSpec(k=8, n=33)"},
        {"dims": (2, 8, 32)},
        {"target": "x86-64-v4"},
        {"machine": "n"},
        {"cold": False},
    ],
)
def test_every_part_of_a_key_counts(tmp_path: Path, change: dict) -> None:
    cache = Cache(tmp_path)
    cache.write(KEY, 1.0)
    assert cache.read(replace(KEY, **change)) is None


def test_a_file_that_is_not_whole_counts_as_absent(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.write(KEY, 1.5)
    path = cache.path(KEY)
    whole = path.read_text()
    for text in (
        "",
        whole[: len(whole) // 2],
        "[]",
        "null",
        whole.replace("1.5", "2.5"),
        whole.replace('"seconds": 1.5', '"seconds": "1.5"'),
        whole.replace('"seconds": 1.5', '"seconds": Infinity'),
        whole.replace('"seconds": 1.5', '"seconds": -1.5'),
        whole.replace("f32_matmul", "f64_matmul"),
    ):
        path.write_text(text)
        assert cache.read(KEY) is None, text
    path.write_bytes(b"\xff\xfe\x00")
    assert cache.read(KEY) is None
    cache.write(KEY, 3.5)
    assert cache.read(KEY) == 3.5


def _hammer(folder: str, seed: int, wrong: "multiprocessing.Queue[int]") -> None:
    """Writes and reads 8 keys that other processes write too; counts values nobody wrote."""
    cache, bad = Cache(Path(folder)), 0
    for i in range(120):
        number = (i * 7 + seed) % 8
        key = Key("f", "v", str(number), (number,), "t", "m", True)
        cache.write(key, 1.0 + number + 100.0 * (i % 50))
        found = cache.read(key)
        bad += found is None or (found - 1 - number) % 100 != 0
    wrong.put(bad)


def test_processes_share_the_cache(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    wrong = context.Queue()
    processes = [
        context.Process(target=_hammer, args=(str(tmp_path), seed, wrong)) for seed in range(4)
    ]
    for process in processes:
        process.start()
    assert [wrong.get(timeout=60) for _ in processes] == [0] * 4
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert not list(tmp_path.rglob("*.part"))


def test_a_killed_writer_leaves_whole_files(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    keys = [Key("f", "v", str(n), (n,), "t", "m", True) for n in range(8)]
    for trial in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        time.sleep(0.03 + 0.017 * trial)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        for number, key in enumerate(keys):
            found = cache.read(key)
            assert cache.path(key).exists() == (found is not None)
            assert found is None or (found - 1 - number) % 100 == 0
    # what a killed writer left beside is removed by later ones once it is old
    leftover = cache.path(KEY).parent / "killed.part"
    leftover.parent.mkdir(exist_ok=True)
    leftover.write_text("half")
    cache.write(KEY, 1.0)
    assert leftover.exists()
    os.utime(leftover, (0, 0))
    cache.write(KEY, 1.0)
    assert not leftover.exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        Cache(tmp_path / "file").write(KEY, 1.0)
    assert Cache(tmp_path / "file").read(KEY) is None


def test_measurements_are_those_of_a_launch(tmp_path: Path) -> None:
    target = TARGETS["x86-64-v3"]
    candidate = Candidate(f32_matmul.FAMILY, f32_matmul.MatmulSpec(8, 32))
    cache = Cache(tmp_path)
    cache.write(key_of(candidate, (1, 8, 32), target, True), 2.0)
    found = Measurements(cache, target)
    assert found.seconds(candidate, (1, 8, 32), True) == 2.0
    assert found.seconds(candidate, (1, 8, 32), False) is None
    assert found.seconds(candidate, (2, 8, 32), True) is None
    assert Measurements(cache, TARGETS["x86-64-v4"]).seconds(candidate, (1, 8, 32), True) is None


def test_a_version_covers_what_the_code_comes_from() -> None:
    names = _closure("tilewright.backends.kernels.split_matmul")
    assert "tilewright.backends.llvm.microkernel" in names
    assert "tilewright.backends.kernels.f32_matmul.spec" in names
    assert not any(name.startswith("tilewright.backends.llvm.lowering") for name in names)
    assert family_version("split_matmul") != family_version("f32_matmul")
    assert split_matmul.FAMILY.name == "split_matmul"
