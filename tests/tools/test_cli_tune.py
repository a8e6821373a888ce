"""`tilewright tune`, and compiling by what it measured."""

import json
import platform
import zipfile
from pathlib import Path

import pytest
from support.command_line import call, refused

from tilewright.backends.llvm import jit
from tilewright.backends.target import TARGETS, runs_here
from tilewright.tools import demo

MODEL = demo.model_path()
ROW = "x86-64-v2"
WORDS = (MODEL, "--target", ROW, "--jobs", "1")
QUICK = ("--typical", "batch=2", "--seconds", "0.001")

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles x86-64 code")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "tilewright" / "tuning"


def choices(path: Path) -> dict:
    with zipfile.ZipFile(path) as archive:
        plan = json.loads(archive.read("plan.json"))
    return plan["variants"][ROW]["selection"]


def test_what_is_measured_once_is_kept_and_used(cache: Path, capsys) -> None:
    first = call(capsys, "tune", *WORDS, *QUICK, "-o", "first.tw", "--json").document
    assert first["cache"] == str(cache)
    assert first["measured"] > 0
    assert first["reused"] == 0
    assert first["regret"] >= 1
    files = {path: path.read_bytes() for path in cache.rglob("*.json")}
    assert len(files) == first["measured"]
    for contest in first["contests"]:
        assert contest["at"] == {"batch": 2}
        assert len(contest["candidates"]) >= 2
        assert all(c["measured"] > 0 and c["predicted"] > 0 for c in contest["candidates"])

    again = call(capsys, "tune", *WORDS, *QUICK, "-o", "again.tw", "--json").document
    assert (again["measured"], again["reused"]) == (0, first["measured"])
    assert [c["candidates"] for c in again["contests"]] == [
        c["candidates"] for c in first["contests"]
    ]
    assert {path: path.read_bytes() for path in cache.rglob("*.json")} == files

    words = ("--tuned", "--typical", "batch=2")
    assert call(capsys, "compile", *WORDS, *words, "-o", "tuned.tw").status == 0
    made = Path("first.tw").read_bytes()
    assert made == Path("again.tw").read_bytes() == Path("tuned.tw").read_bytes()


def test_a_budget_is_gone_on_with(cache: Path, capsys) -> None:
    words = ("tune", *WORDS, *QUICK, "-o", "slow.tw", "--json")
    first = call(capsys, *words, "--budget", "0").document
    assert (first["measured"], first["artifact"]) == (0, None)
    assert first["left"] > 1
    assert not Path("slow.tw").exists()
    code = {path: path.stat().st_mtime_ns for path in (cache / "code").iterdir()}
    assert code

    left = first["left"]
    while left:
        report = call(capsys, *words, "--budget", "0.000001").document
        assert (report["measured"] > 0, report["left"]) == (True, left - 1)
        left -= 1
        kept = {p: p.stat().st_mtime_ns for p in (cache / "code").iterdir()}
        assert kept.items() <= code.items()  # nothing was compiled twice
    last = call(capsys, *words, "--budget", "5").document
    assert (last["measured"], last["left"], last["artifact"]) == (0, 0, "slow.tw")
    assert not list((cache / "code").iterdir())
    whole = call(capsys, "tune", *WORDS, *QUICK, "-o", "whole.tw", "--json").document
    assert (whole["measured"], whole["contests"]) == (0, last["contests"])
    assert Path("whole.tw").read_bytes() == Path("slow.tw").read_bytes()


def test_damaged_code_is_compiled_again(cache: Path, capsys) -> None:
    words = ("tune", *WORDS, *QUICK, "-o", "a.tw", "--json")
    call(capsys, *words, "--budget", "0")
    for path in (cache / "code").iterdir():
        held = bytearray(path.read_bytes())
        held[len(held) // 2] ^= 1
        path.write_bytes(held)
    report = call(capsys, *words).document
    assert (report["left"], report["artifact"]) == (0, "a.tw")


def test_kernels_for_several_threads(cache: Path, capsys) -> None:
    words = ("compile", *WORDS, "--typical", "batch=512")
    assert call(capsys, *words, "-o", "one.tw").status == 0
    assert call(capsys, *words, "--for-threads", "2", "-o", "two.tw").status == 0
    one, two = choices(Path("one.tw")), choices(Path("two.tw"))
    assert (one["threads"], two["threads"]) == (1, 2)
    for a, b in zip(one["choices"], two["choices"], strict=True):
        alone = {c["spec"]: c["microseconds"][0] for c in a["candidates"]}
        shared = {c["spec"]: c["microseconds"][0] for c in b["candidates"]}
        assert all(shared[spec] < 1.5 * alone[spec] for spec in alone)
    assert "2 threads, weights from" in call(capsys, "inspect", "two.tw", "--plan").out


def test_the_plan_marks_what_was_measured(cache: Path, capsys) -> None:
    report = call(capsys, "tune", *WORDS, *QUICK, "-o", "tuned.tw", "--json").document
    best = {
        contest["task"]: min(contest["candidates"], key=lambda c: c["measured"])["kernel"]
        for contest in report["contests"]
    }
    for choice in choices(Path("tuned.tw"))["choices"]:
        chosen = choice["candidates"][0]
        if choice["task"] in best:
            assert chosen["measured"] == [True]
            assert f"{chosen['family']} {chosen['spec']}".rstrip() == best[choice["task"]]
    assert "*" in call(capsys, "inspect", "tuned.tw", "--plan").out

    assert call(capsys, "compile", *WORDS, "-o", "plain.tw").status == 0
    plain = choices(Path("plain.tw"))
    assert not any(any(c["measured"]) for o in plain["choices"] for c in o["candidates"])


def test_measuring_again_writes_again(cache: Path, capsys) -> None:
    call(capsys, "tune", *WORDS, *QUICK, "-o", "a.tw")
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.json")}
    report = call(capsys, "tune", *WORDS, *QUICK, "-o", "a.tw", "--again", "--json").document
    assert report["reused"] == 0
    after = {path: path.stat().st_mtime_ns for path in cache.rglob("*.json")}
    assert after.keys() == before.keys()
    assert all(after[path] > before[path] for path in before)


def test_the_table_names_the_kernels(cache: Path, capsys) -> None:
    out = call(capsys, "tune", *WORDS, *QUICK, "-o", "a.tw").out
    assert "kernels measured on one thread" in out
    assert f"kernels measured, 0 known from before ({cache})" in out
    assert "a.tw: compiled with what was measured" in out


def test_a_target_of_another_machine(cache: Path, capsys) -> None:
    assert refused(capsys, "tune", MODEL, "--target", "neoverse-n1") == (
        "--target neoverse-n1: this machine cannot run its code, so there is nothing to measure\n"
        "  missing: asimd, asimddp, fphp\n"
        "  try: tune on such a machine; its cache goes with `tilewright compile --tuned` there"
    )
    assert not Path("digits.tw").exists()


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.chdir(tmp_path)
    assert refused(capsys, "tune", *WORDS, *QUICK) == (
        f"{tmp_path}/file/tilewright/tuning: measurements cannot be kept there\n"
        "  the system says: Not a directory\n"
        "  try: set XDG_CACHE_HOME to a folder that can be written"
    )
    assert not list(tmp_path.glob("*.tw"))


@pytest.mark.skipif(not runs_here(TARGETS["sapphirerapids"]), reason="needs AMX")
def test_a_system_that_refuses_tiles(cache: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(jit, "request_tile_permission", lambda: False)
    assert refused(capsys, "tune", MODEL, "--target", "sapphirerapids", *QUICK) == (
        "--target sapphirerapids: the system does not let this process use AMX tile registers\n"
        "  try: choose a target without AMX, for example --target x86-64-v4"
    )


def test_a_typical_size_of_no_dimension(cache: Path, capsys) -> None:
    for command in ("tune", "compile"):
        assert refused(capsys, command, *WORDS, "--typical", "bach=2") == (
            "typical bach=2: there is no such dimension\n  try: did you mean 'batch'?"
        )


def test_a_typical_size_out_of_bounds(cache: Path, capsys) -> None:
    words = (*WORDS, "--dim", "batch=1..8", "--typical", "batch=9")
    assert refused(capsys, "compile", *words) == (
        "typical batch=9: the dimension does not allow it\n  batch is 1..8"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--top", "1"), "Invalid value for '--top': 1 is not in the range x>=2."),
        (("--again", "--budget", "1"), "--again starts over, --budget goes on"),
        (("--seconds", "0"), "Invalid value for '--seconds': 0.0 is not in the range"),
        (("--typical", "batch"), "'batch' is not of the form NAME=VALUE"),
    ],
)
def test_wrong_usage(words, message, cache: Path, capsys) -> None:
    called = call(capsys, "tune", MODEL, *words)
    assert called.status == 2
    assert message in called.err
