"""Which code of an artifact runs on which CPU, and what the others are told."""

import dataclasses
import re

import pytest
from support.tiny_artifact import MANIFEST, build_code, write_tiny

import tilewright.runtime
from tilewright.backends.llvm.cpuid import CPUID_BITS
from tilewright.runtime import TargetError
from tilewright.runtime.cpu import features_of_flags, host_features
from tilewright.runtime.manifest import Variant


def test_the_best_variant_is_taken(code, tmp_path):
    files = {f"model.{name}.so": code for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4")}
    variants = (
        Variant("x86-64-v2", "model.x86-64-v2.so", ("sse2",), 2),
        Variant("x86-64-v3", "model.x86-64-v3.so", ("sse2", "ssse3"), 3),
        Variant("x86-64-v4", "model.x86-64-v4.so", ("sse2", "quantum"), 4),
    )
    manifest = dataclasses.replace(MANIFEST, variants=variants)
    path = write_tiny(str(tmp_path / "m.tw"), code, manifest, files)
    assert tilewright.runtime.load(path, threads=1).variant == "x86-64-v3"
    assert tilewright.runtime.load(path, threads=1, variant="x86-64-v2").variant == "x86-64-v2"
    with pytest.raises(TargetError) as error:
        tilewright.runtime.load(path, variant="x86-64-v9")
    assert str(error.value) == (
        f"{path}: the artifact has no variant 'x86-64-v9'\n  did you mean 'x86-64-v4'?\n"
        "  try: leave the variant out to get the best one"
    )


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        (
            Variant("x86-64-v4", "model.x86-64-v2.so", ("sse2", "quantum", "warp"), 4),
            (
                ": this CPU lacks features that every variant of the artifact needs\n"
                "  the nearest variant, x86-64-v4, needs quantum, warp\n"
            ),
        ),
        (
            Variant("neoverse-n1", "model.x86-64-v2.so", ("neon",), 1, "aarch64"),
            (
                ": the artifact has no code for this machine\n"
                "  expected a variant for x86_64, found neoverse-n1\n"
            ),
        ),
    ],
)
def test_an_artifact_for_another_machine(code, tmp_path, variant, message):
    manifest = dataclasses.replace(MANIFEST, variants=(variant,))
    path = write_tiny(str(tmp_path / "m.tw"), code, manifest)
    with pytest.raises(TargetError) as error:
        tilewright.runtime.load(path)
    hint = "  try: compile the model again with a target of this machine"
    assert str(error.value) == path + message + hint


def test_the_code_itself_asks_the_cpu(tmp_path):
    """A manifest that promises too little does not lead to an illegal instruction."""
    if "amx-fp16" in host_features():
        pytest.skip("this CPU has AMX-FP16")
    path = write_tiny(str(tmp_path / "m.tw"), build_code(["sse2", "amx-fp16"]))
    with pytest.raises(TargetError) as error:
        tilewright.runtime.load(path)
    assert str(error.value) == (
        f"{path}: this CPU or operating system lacks amx-fp16, which this code needs\n"
        "  try: compile the model again with a target of this machine"
    )


def test_every_feature_that_linux_shows_is_found_by_the_emitted_check(tmp_path):
    shared = sorted(set(CPUID_BITS) & host_features())
    assert {"sse2", "sse4.2", "cx16"} <= set(shared)
    path = write_tiny(str(tmp_path / "m.tw"), build_code(shared))
    tilewright.runtime.load(path, threads=1).close()


def test_code_that_is_no_shared_object(tmp_path):
    path = write_tiny(str(tmp_path / "m.tw"), b"\x7fELF but not really")
    with pytest.raises(TargetError) as error:
        tilewright.runtime.load(path)
    assert re.fullmatch(
        re.escape(path) + r": the model's code cannot be loaded\n"
        r"  the system says: /proc/self/fd/\d+: file too short\n"
        r"  try: run on Linux with glibc, on the machine type the model was compiled for",
        str(error.value),
    )


def test_linux_flags_become_llvm_names():
    flags = "sse4_1 sse4_2 bmi1 abm avx512_vnni avx_vnni amx_int8 avx512_fp16 pclmulqdq avx2"
    assert features_of_flags(flags.split()) == {
        "sse4.1",
        "sse4.2",
        "crc32",
        "bmi",
        "lzcnt",
        "avx512vnni",
        "avxvnni",
        "amx-int8",
        "avx512fp16",
        "pclmul",
        "avx2",
    }
