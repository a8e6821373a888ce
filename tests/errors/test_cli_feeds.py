"""Data that do not fit, at the command line: the whole message and exit status 1."""

import platform

import numpy as np
import pytest
from support.command_line import refused

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles x86-64 code")

SEE = "  try: see get_inputs() for names, types and shapes"


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((2, 4)),
            "wrong element type\n  expected float32, found float64\n  try: array.astype('float32')",
        ),
        (
            np.zeros((2, 3), np.float32),
            (
                "wrong size of axis 1\n  expected 4, in shape (n, 4); found 3, in shape (2, 3)\n"
                "  try: reshape or pad the array"
            ),
        ),
        (
            np.zeros(4, np.float32),
            (
                "wrong number of dimensions\n  expected 2, (n, 4); found 1, (4,)\n"
                "  try: reshape the array"
            ),
        ),
    ],
    ids=["type", "size", "rank"],
)
def test_an_array_that_does_not_fit(array, message, small_artifact, capsys) -> None:
    np.save("x.npy", array)
    text = refused(capsys, "run", small_artifact, "--input", "x=x.npy")
    assert text == f"{small_artifact}: input 'x': {message}"


def test_a_size_out_of_bounds(small_artifact, capsys) -> None:
    np.save("x.npy", np.zeros((0, 4), np.float32))
    assert refused(capsys, "run", small_artifact, "--input", "x=x.npy") == (
        f"{small_artifact}: dimension 'n' is out of bounds\n"
        "  expected at least 1, found 0, axis 0 of input 'x'\n"
        "  try: give smaller or larger inputs, or compile with other bounds"
    )


def test_an_unknown_input(small_artifact, capsys) -> None:
    np.save("x.npy", np.zeros((2, 4), np.float32))
    assert refused(capsys, "run", small_artifact, "--input", "y=x.npy") == (
        f"{small_artifact}: unknown input 'y'\n  known: 'x'\n"
        "  try: `tilewright inspect` lists the inputs"
    )


def test_no_input(small_artifact, capsys) -> None:
    assert refused(capsys, "run", small_artifact) == (
        f"{small_artifact}: input 'x' is missing\n"
        f"  the model has 1 inputs, the feeds have nothing\n{SEE}"
    )


def test_an_unknown_dimension(small_artifact, capsys) -> None:
    assert refused(capsys, "run", small_artifact, "--random", "--shape", "m=3") == (
        f"{small_artifact}: there is no dimension 'm'\n  found n\n  try: known: 'n'"
    )


def test_a_dimension_that_the_memory_plan_does_not_use(small_artifact, capsys) -> None:
    assert refused(capsys, "inspect", small_artifact, "--memory", "--shape", "n=3") == (
        "--shape n: the memory plan does not depend on it\n  has none"
    )


def test_files_that_are_no_arrays(small_artifact, tmp_path, capsys) -> None:
    assert refused(capsys, "run", small_artifact, "--input", "x=none.npy") == (
        "none.npy: cannot be read\n"
        "  the system says: No such file or directory\n"
        "  try: check the path"
    )
    (tmp_path / "text.npy").write_text("not an array")
    text = refused(capsys, "run", small_artifact, "--input", "x=text.npy")
    assert text.startswith("text.npy: is not an .npy or .npz file of plain arrays\n")
    np.save("x.npy", np.zeros((2, 4), np.float32))
    assert refused(capsys, "run", small_artifact, "--inputs", "x.npy") == (
        "x.npy: holds one array without a name\n  expected an .npz file\n  try: --input NAME=x.npy"
    )
    np.savez("x.npz", x=np.zeros((2, 4), np.float32))
    assert refused(capsys, "run", small_artifact, "--input", "x=x.npz") == (
        "x.npz: holds several arrays\n  expected an .npy file\n  try: --inputs x.npz"
    )


def test_a_pickle_is_not_run(small_artifact, tmp_path, capsys) -> None:
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "owned"), "w"))

    np.save("x.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    text = refused(capsys, "run", small_artifact, "--input", "x=x.npy")
    assert text == (
        "x.npy: is not an .npy or .npz file of plain arrays\n"
        "  Object arrays cannot be loaded when allow_pickle=False\n"
        "  try: write it with numpy.save or numpy.savez"
    )
    assert not (tmp_path / "owned").exists()


def test_a_range_that_is_none(small_artifact, capsys) -> None:
    assert refused(capsys, "run", small_artifact, "--random", "--range", "x=low..3") == (
        "--range x=low..3: is not of the form NAME=LO..HI"
    )
    assert refused(capsys, "run", small_artifact, "--random", "--range", "x=4..3") == (
        "--range x=4..3: is empty\n  4 is above 3"
    )
