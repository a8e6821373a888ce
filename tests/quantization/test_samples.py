"""Calibration samples: every way to give them, the part held out, and every refusal in full."""

import sys
import types

import numpy as np
import pytest
from support.draft_graph import Draft

from tilewright.compiler.errors import UserError
from tilewright.compiler.samples import read_samples


@pytest.fixture
def inputs():
    """Token ids [batch, seq] and a float [batch, 3]."""
    draft = Draft(bounds=(1, 64))
    draft.input("ids", "i64", "batch", "seq")
    draft.input("x", "f32", "batch", 3)
    return draft.inputs


def feeds(batch=1, seq=4, seed=0):
    random = np.random.default_rng(seed)
    ids = random.integers(0, 9, (batch, seq))
    return {"ids": ids, "x": random.standard_normal((batch, 3)).astype(np.float32)}


def folder(path, count):
    for i in range(count):
        np.savez(path / f"{i}.npz", **feeds(seq=3 + i, seed=i))
    return str(path)


def refusal(source, inputs):
    with pytest.raises(UserError) as caught:
        list(read_samples(str(source), inputs))
    return str(caught.value)


def test_a_folder_has_one_sample_a_file(tmp_path, inputs):
    samples = read_samples(folder(tmp_path, 9), inputs)
    assert [s["ids"].shape[1] for s in samples] == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert [s["ids"].shape[1] for s in samples.held_out] == [6, 10]
    assert [s["ids"].shape[1] for s in samples.calibration] == [3, 4, 5, 7, 8, 9, 11]


@pytest.mark.parametrize("count", [2, 3])
def test_the_last_of_few_samples_is_held_out(tmp_path, inputs, count):
    samples = read_samples(folder(tmp_path, count), inputs)
    assert [s["ids"].shape[1] for s in samples.held_out] == [2 + count]
    assert len(samples.calibration) == count - 1


def test_each_element_of_a_symbolic_first_axis_is_a_sample(tmp_path, inputs):
    given = feeds(batch=5)
    np.savez(tmp_path / "all.npz", **given)
    samples = read_samples(str(tmp_path / "all.npz"), inputs)
    assert len(samples) == 5
    np.testing.assert_array_equal(samples[3]["ids"], given["ids"][3:4])


def test_a_further_first_axis_counts_samples(tmp_path, inputs):
    given = feeds(batch=2)
    stacked = {name: np.stack([a, a + 1, a + 2]) for name, a in given.items()}
    np.savez(tmp_path / "all.npz", **stacked)
    samples = read_samples(str(tmp_path / "all.npz"), inputs)
    assert len(samples) == 3
    np.testing.assert_array_equal(samples[2]["x"], given["x"] + 2)


@pytest.fixture
def module(monkeypatch):
    made = types.ModuleType("calibration_data")
    monkeypatch.setitem(sys.modules, "calibration_data", made)
    return made


def test_a_function_yields_samples(module, inputs):
    module.texts = lambda: (feeds(seed=i) for i in range(6))
    assert len(read_samples("calibration_data:texts", inputs)) == 6


def test_what_cannot_be_read_is_refused(tmp_path, inputs, module):
    missing = tmp_path / "none.npz"
    assert refusal(missing, inputs) == (
        f"{missing}: cannot be read\n  the system says: No such file or directory\n"
        "  try: give an .npz file, a folder of them, or module:function"
    )
    assert refusal(tmp_path, inputs) == (
        f"{tmp_path}: has no samples\n  expected .npz files, found none\n  try: write one a sample"
    )
    text = tmp_path / "text.npz"
    text.write_text("hello")
    assert refusal(text, inputs).startswith(f"{text}: is not an .npz file of plain arrays\n")
    np.save(tmp_path / "one.npy", np.ones(3))
    assert refusal(tmp_path / "one.npy", inputs) == (
        f"{tmp_path / 'one.npy'}: is not an .npz file\n"
        "  it holds one array without a name\n  try: write it with numpy.savez"
    )
    assert refusal("no_such_module:texts", inputs) == (
        "no_such_module:texts: there is no such file or module\n"
        "  Python says: No module named 'no_such_module'\n"
        "  try: give the path of an .npz file or folder, or make the module importable"
    )
    module.texts = lambda: iter(())
    assert refusal("calibration_data:text", inputs) == (
        "calibration_data:text: module calibration_data has no function 'text'\n"
        "  try: did you mean 'texts'?"
    )
    assert refusal("calibration_data:texts", inputs) == (
        "calibration_data:texts: has too few samples to calibrate\n"
        "  expected at least 2, one of them to judge by, found 0\n"
        "  try: give more samples; some dozen are usual"
    )
    module.texts = lambda: [[1, 2]]
    assert refusal("calibration_data:texts", inputs) == (
        "calibration_data:texts, sample 0: is no set of feeds\n"
        "  expected a mapping of input names to arrays, found list"
    )


def test_samples_that_do_not_fit_the_inputs_are_refused(module, inputs):
    where = "calibration_data:texts, sample 1"

    def after(**changes):
        module.texts = lambda: [feeds(), {**feeds(), **changes}]
        return refusal("calibration_data:texts", inputs)

    assert after(y=np.ones(3)) == f"{where}: unknown input 'y'\n  try: known: ids, x"
    assert after(x=np.ones((1, 4), np.float32)) == (
        f"{where}: input 'x' has the wrong shape\n  expected [batch, 3], found [1, 4]"
    )
    assert after(x=np.ones((2, 3), np.float32)) == (
        f"{where}: input 'x' has the wrong shape\n  expected [batch, 3], found [2, 3]"
    )
    assert after(x=np.ones((1, 3))) == (
        f"{where}: input 'x' has the wrong type\n  expected float32, found float64\n"
        "  try: convert it: array.astype('float32')"
    )
    assert after(x=np.full((1, 3), np.inf, np.float32)) == (
        f"{where}: input 'x' has infinite or NaN values"
    )
    module.texts = lambda: [feeds(), {"ids": feeds()["ids"]}]
    assert refusal("calibration_data:texts", inputs) == (
        f"{where}: input 'x' is missing\n  expected ids, x, found ids"
    )


def test_arrays_of_different_length_are_refused(tmp_path, inputs):
    path = tmp_path / "all.npz"
    np.savez(path, ids=feeds(batch=3)["ids"], x=feeds(batch=4)["x"])
    assert refusal(path, inputs) == (
        f"{path}: inputs have different numbers of samples\n  found ids: 3, x: 4"
    )
