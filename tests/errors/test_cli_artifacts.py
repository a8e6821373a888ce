"""Damaged and foreign artifacts at the command line: the whole message and exit status 1."""

import platform
import struct
import zipfile

import pytest
from support.command_line import call, refused

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles x86-64 code")

ENTRIES = [
    "checksums.json",
    "manifest.json",
    "model.x86-64-v2.so",
    "plan.json",
    "weights.safetensors",
]
COMMANDS = {
    "run": ("run", "bad.tw", "--random"),
    "inspect": ("inspect", "bad.tw"),
    "bench": ("bench", "bad.tw", "--against", "none"),
}


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def middle_of(path, name):
    """The offset of the middle byte of an entry."""
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
    name_bytes, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
    return info.header_offset + 30 + name_bytes + extra + info.compress_size // 2


def test_the_artifact_has_the_entries_that_are_damaged_below(small_artifact) -> None:
    with zipfile.ZipFile(small_artifact) as archive:
        assert sorted(archive.namelist()) == ENTRIES


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("command", COMMANDS)
def test_one_flipped_byte(command, entry, small_artifact, tmp_path, capsys) -> None:
    data = bytearray(small_artifact.read_bytes())
    data[middle_of(small_artifact, entry)] ^= 0xFF
    (tmp_path / "bad.tw").write_bytes(data)
    assert refused(capsys, *COMMANDS[command]) == (
        "bad.tw: the artifact is damaged\n"
        f"  the bytes of entry {entry!r} were changed\n"
        "  try: copy or compile the artifact again"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_a_truncated_artifact(command, small_artifact, tmp_path, capsys) -> None:
    data = small_artifact.read_bytes()
    (tmp_path / "bad.tw").write_bytes(data[: len(data) // 2])
    assert refused(capsys, *COMMANDS[command]) == (
        "bad.tw: the artifact is damaged\n"
        f"  the file ends at byte {len(data) // 2} without a ZIP directory\n"
        "  try: copy or compile the artifact again"
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_no_artifact_at_all(command, tmp_path, capsys) -> None:
    assert refused(capsys, *COMMANDS[command]) == (
        "bad.tw: the artifact cannot be read\n"
        "  the system says: No such file or directory\n"
        "  try: check the path and its permissions"
    )


@pytest.mark.parametrize("command", ["run", "bench"])
def test_an_artifact_for_another_machine(command, foreign_artifact, capsys) -> None:
    words = {"run": ("--random",), "bench": ("--against", "none")}[command]
    assert refused(capsys, command, foreign_artifact, *words) == (
        f"{foreign_artifact}: the artifact has no code for this machine\n"
        "  expected a variant for x86_64, found neoverse-n1\n"
        "  try: compile the model again with a target of this machine"
    )


def test_an_artifact_for_another_machine_can_be_inspected(foreign_artifact, capsys) -> None:
    called = call(capsys, "inspect", foreign_artifact, "--json")
    assert called.status == 0
    (variant,) = called.document["variants"]
    assert (variant["target"], variant["runs_here"]) == ("neoverse-n1", False)


def test_an_unknown_variant(small_artifact, capsys) -> None:
    text = refused(capsys, "run", small_artifact, "--random", "--variant", "x86-64-v3")
    assert text == (
        f"{small_artifact}: the artifact has no variant 'x86-64-v3'\n"
        "  did you mean 'x86-64-v2'?\n"
        "  try: leave the variant out to get the best one"
    )


def test_what_an_artifact_does_not_hold(small_artifact, capsys) -> None:
    assert refused(capsys, "inspect", small_artifact, "--ir", "import") == (
        f"{small_artifact}: an artifact holds no IR\n  try: inspect the ONNX model it was made from"
    )
    assert refused(capsys, "inspect", small_artifact, "--structure") == (
        f"{small_artifact}: an artifact holds its weights in kernels' formats\n"
        "  try: inspect the ONNX model it was made from"
    )
    assert refused(capsys, "inspect", small_artifact, "--kernel", "region", "--llvm") == (
        f"{small_artifact}: an artifact holds no LLVM IR\n"
        "  try: tilewright inspect MODEL.onnx --kernel region --llvm"
    )
    text = refused(capsys, "inspect", small_artifact, "--kernel", "regoin")
    assert text.startswith("kernel 'regoin': there is no such kernel\n  known: 'region_x86_64_v2_")


def test_a_machine_without_disassembler(small_artifact, monkeypatch, capsys) -> None:
    monkeypatch.setenv("PATH", "")
    assert refused(capsys, "inspect", small_artifact, "--kernel", "region") == (
        f"{small_artifact}: there is no disassembler on this machine\n"
        "  looked for objdump and llvm-objdump\n"
        "  try: install binutils or llvm, or "
        "`tilewright inspect MODEL.onnx --kernel NAME --asm`"
    )
