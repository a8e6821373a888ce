"""The C loader: compiled with the machine's compiler, run on the tiny artifact."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.tiny_artifact import MANIFEST, build_code, expected, write_tiny

import tilewright.runtime
from tilewright.runtime.manifest import Variant

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
INCLUDE = Path(tilewright.runtime.__file__).parent / "include"
WARNINGS = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    program = tmp_path_factory.mktemp("c") / "example"
    source = str(INCLUDE / "example.c")
    command = [COMPILER, "-O1", *WARNINGS, source, "-o", str(program), "-ldl"]
    subprocess.run(command, check=True, cwd=program.parent)
    return str(program)


def run(example, folder, artifact, x, b):
    x.tofile(folder / "x.bin")
    b.tofile(folder / "b.bin")
    shape = ",".join(map(str, x.shape))
    # 8 bytes an element: enough for the int64 output, and y is read back from the front.
    arguments = [artifact, "2", "out.bin", "8", "x.bin", shape, "b.bin", str(len(b))]
    return subprocess.run([example, *arguments], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def inputs():
    rng = np.random.default_rng(0)
    return rng.standard_normal((7, 4), np.float32), rng.standard_normal(7, np.float32)


def test_it_computes_what_python_computes(example, artifact, tmp_path, inputs):
    done = run(example, tmp_path, artifact, *inputs)
    assert (done.stderr, done.returncode) == ("", 0)
    got = np.fromfile(tmp_path / "out.bin", np.float32)[: 7 * 4].reshape(7, 4)
    np.testing.assert_array_equal(got, expected(*inputs)[0])


def test_the_best_code_that_this_cpu_runs_is_taken(example, code, tmp_path, inputs):
    """All but v3 ask for a feature that this CPU lacks."""
    lacking = [name for name in ("amx-fp16", "avx512vp2intersect") if not has(name)]
    if not lacking:
        pytest.skip("this CPU has every feature that the test needs to be absent")
    files = {
        "model.granite.so": build_code(["sse2", lacking[0]]),
        "model.x86-64-v4.so": build_code([lacking[0]]),
        "model.x86-64-v3.so": code,
        "model.x86-64-v2.so": build_code([lacking[0]]),
    }
    variants = tuple(Variant(name[6:-3], name) for name in files)
    manifest = dataclasses.replace(MANIFEST, variants=variants)
    path = write_tiny(str(tmp_path / "m.tw"), code, manifest, files)
    assert run(example, tmp_path, path, *inputs).returncode == 0


def test_a_cpu_without_the_feature_is_told(example, tmp_path, inputs):
    if has("amx-fp16"):
        pytest.skip("this CPU has AMX-FP16")
    path = write_tiny(str(tmp_path / "m.tw"), build_code(["amx-fp16"]))
    done = run(example, tmp_path, path, *inputs)
    assert done.stderr == f"{path}: the artifact has no code for this CPU\n"
    assert done.returncode == 1


def test_errors_of_the_model_have_their_text(example, artifact, tmp_path, inputs):
    x, b = inputs
    x[0, 0] = 2e6
    done = run(example, tmp_path, artifact, x, b)
    assert done.stderr == f"{artifact}: node 'scale': the value is too large\n"


def test_conflicting_shapes_have_their_text(example, artifact, tmp_path, inputs):
    done = run(example, tmp_path, artifact, inputs[0], inputs[1][:3])
    assert done.stderr == (
        f"{artifact}: input shapes conflict with each other or lie outside of the model's bounds\n"
    )


def test_damaged_files_never_crash_it(example, artifact, tmp_path, inputs):
    whole = Path(artifact).read_bytes()
    texts = set()
    for size in (0, 1, 21, 22, 4096, len(whole) - 300, len(whole) - 22, len(whole) - 1):
        path = tmp_path / "cut.tw"
        path.write_bytes(whole[:size])
        done = run(example, tmp_path, str(path), *inputs)
        assert done.returncode == 1
        texts.add(done.stderr.split(": ")[1].strip())
    assert texts == {"not a tilewright artifact", "the artifact is damaged"}
    directory = whole.rindex(b"PK\x01\x02")
    for position in range(directory, len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 0xFF
        path.write_bytes(changed)
        assert run(example, tmp_path, str(path), *inputs).returncode in (0, 1)


def test_a_flipped_byte_of_the_code_is_found(example, artifact, code, tmp_path, inputs):
    whole = bytearray(Path(artifact).read_bytes())
    whole[whole.index(code) + len(code) // 2] ^= 1
    path = tmp_path / "changed.tw"
    path.write_bytes(whole)
    assert run(example, tmp_path, str(path), *inputs).stderr == (
        f"{path}: the artifact is damaged\n"
    )


def test_no_such_file(example, tmp_path, inputs):
    done = run(example, tmp_path, "missing.tw", *inputs)
    assert done.stderr == "missing.tw: the artifact cannot be read\n"


def test_it_is_valid_cplusplus(tmp_path):
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    source = tmp_path / "use.cpp"
    source.write_text(
        '#include "tilewright.h"\nint main() { tw_model m; return tw_open("", 1, &m); }'
    )
    command = [compiler, "-fsyntax-only", "-Wall", "-Werror", f"-I{INCLUDE}", str(source)]
    subprocess.run(command, check=True)


def has(feature):
    from tilewright.runtime.cpu import host_features

    return feature in host_features()
