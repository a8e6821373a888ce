"""Which slice of an artifact is run, in Python and in C."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.tiny_artifact import MANIFEST, build_code, expected, write_tiny

import tilewright.runtime
from tilewright.runtime import TargetError
from tilewright.runtime.manifest import Variant, from_json

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
INCLUDE = Path(tilewright.runtime.__file__).parent / "include"
NAMES = ("x86-64-v2.slice4", "x86-64-v2.slice8", "x86-64-v3.slice4", "x86-64-v3.slice8")

PROGRAM = """
#define _GNU_SOURCE 1
#include "tilewright.h"
#include <stdlib.h>
int main(int argc, char **argv)
{
    tw_model model;
    int status = tw_open_slice(argv[1], 1, atoi(argv[argc - 1]), &model);
    if (status == TW_OK) tw_close(&model);
    return puts(tw_open_error(status)) < 0;
}
"""


@pytest.fixture
def sliced(code, tmp_path):
    """Of slice 8 only the code for x86-64-v2 runs here."""
    files = {f"model.{name}.so": code for name in NAMES}
    variants = tuple(
        Variant(
            name[:9],
            f"model.{name}.so",
            ("sse2", "quantum") if name == NAMES[3] else ("sse2",),
            int(name[8]),
            slice=int(name[-1]),
        )
        for name in NAMES
    )
    manifest = dataclasses.replace(MANIFEST, variants=variants)
    return write_tiny(str(tmp_path / "m.tw"), code, manifest, files)


@pytest.mark.parametrize(
    ("wanted", "slice_", "variant"),
    [(None, 8, "x86-64-v2"), (8, 8, "x86-64-v2"), (4, 4, "x86-64-v3")],
)
def test_a_slice_is_opened(sliced, wanted, slice_, variant):
    with tilewright.runtime.load(sliced, 1, slice=wanted) as session:
        assert (session.slice, session.variant, session.slices) == (slice_, variant, (8, 4))
        x, b = np.ones((3, 4), np.float32), np.ones(3, np.float32)
        np.testing.assert_array_equal(session.run(None, {"x": x, "b": b})[0], expected(x, b)[0])
        assert session.profile({"x": x, "b": b}, 1)


def test_sessions_of_all_slices_use_one_mapping(sliced):
    four = tilewright.runtime.load(sliced, 1, slice=4)
    eight = tilewright.runtime.load(sliced, 1)
    assert four._file is eight._file


def test_a_slice_that_is_not_there(sliced, artifact):
    with pytest.raises(TargetError) as error:
        tilewright.runtime.load(sliced, 1, slice=6)
    assert str(error.value) == (
        f"{sliced}: the artifact has no slice of 6 bits\n  it has slices of 8, 4 bits\n"
        "  try: leave the slice out, or compile the model with --slices"
    )
    with pytest.raises(TargetError) as error:
        tilewright.runtime.load(artifact, 1, slice=0)
    assert str(error.value) == (
        f"{artifact}: the artifact has no slice of 0 bits\n  it was compiled without slices\n"
        "  try: leave the slice out, or compile the model with --slices"
    )


def test_an_artifact_without_slices(artifact):
    with tilewright.runtime.load(artifact, 1) as session:
        assert (session.slice, session.slices) == (0, ())


def test_the_manifest_has_them():
    sliced = dataclasses.replace(MANIFEST.variants[0], slice=4)
    manifest = dataclasses.replace(MANIFEST, variants=(sliced,))
    assert from_json(manifest.to_json()).variants == (sliced,)
    assert b"slice" not in MANIFEST.to_json()


@pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
def test_the_c_loader_opens_them(sliced, artifact, code, tmp_path):
    program = tmp_path / "slice"
    source = program.with_suffix(".c")
    source.write_text(PROGRAM)
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{INCLUDE}"]
    subprocess.run([COMPILER, *flags, str(source), "-o", str(program), "-ldl"], check=True)

    def opened(path, bits):
        done = subprocess.run([program, path, str(bits)], capture_output=True, text=True)
        return done.stdout.strip()

    assert [opened(sliced, bits) for bits in (0, 8, 4)] == ["no error"] * 3
    assert opened(sliced, 6) == "the artifact has no such slice"
    assert opened(artifact, 0) == "no error"
    assert opened(artifact, 4) == "the artifact has no such slice"
    # The slice decides before the instruction set does.
    broken = build_code(["amx-fp16", "avx512vp2intersect"])
    files = {f"model.{name}.so": broken if "slice4" in name else code for name in NAMES}
    variants = tuple(Variant(name[:9], f"model.{name}.so", slice=int(name[-1])) for name in NAMES)
    manifest = dataclasses.replace(MANIFEST, variants=variants)
    path = write_tiny(str(tmp_path / "b.tw"), code, manifest, files)
    assert opened(path, 0) == "no error"
    assert opened(path, 4) == "the artifact has no code for this CPU"
