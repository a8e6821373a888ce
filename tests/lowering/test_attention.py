"""Attention: every layout, mask and kind of causality; other types by decomposition."""

import itertools

import numpy as np
import pytest
from support.compiled_graph import check_graph, labels
from support.draft_graph import Draft

from tilewright.compiler.ir.ops.nn import Attention

SIZES = {"b": "b", "h": 4, "g": 4, "q": "q", "k": "k", "d": 8, "e": 8}
ENVS = ({"b": 2, "q": 5, "k": 7}, {"b": 1, "q": 1, "k": 1}, {"b": 1, "q": 3, "k": 40})


def attention(dtype="f32", mask=None, envs=ENVS, sizes=SIZES, axes=(), special=False, **fields):
    """A graph of one attention; `mask` is (type, shape letters or ints)."""
    d = Draft((0, 64))
    layout = dict(zip(("q_axes", "k_axes", "v_axes", "out_axes"), axes, strict=False))
    values = {}
    for name, plain in (("q", "bhqd"), ("k", "bgkd"), ("v", "bgke")):
        letters = layout.get(f"{name}_axes", plain)
        values[name] = d.input(name, dtype, *(sizes[c] for c in letters))
    if mask is not None:
        values["mask"] = d.input("mask", mask[0], *(sizes.get(c, c) for c in mask[1]))
    fields.setdefault("scale", 0.3)
    y = d(Attention, **values, **layout, **fields)
    low = check_graph(d.graph(y), *envs, special=special, scale=4)
    return [label for label in labels(low) if label != "copy"]


QUERIES = ["".join(p) for p in itertools.permutations("bhqd")]


@pytest.mark.parametrize("index", range(0, 24, 4))
def test_layouts(index: int) -> None:
    """Each tensor in another permutation of its axes."""
    q = QUERIES[index]
    k = QUERIES[(index * 5 + 1) % 24].replace("h", "g").replace("q", "k")
    v = QUERIES[(index * 7 + 2) % 24].replace("h", "g").replace("q", "k").replace("d", "e")
    out = QUERIES[(index * 11 + 3) % 24].replace("d", "e")
    attention(axes=(q, k, v, out), envs=ENVS[:2])


def test_the_usual_layouts_need_one_kernel_and_no_copy() -> None:
    for axes in (("bhqd", "bgkd", "bgke", "bhqe"), ("bqhd", "bkgd", "bkge", "bqhe")):
        assert attention(axes=axes) == ["attention"]


@pytest.mark.parametrize(
    ("groups", "sizes"), [(1, (8, 8)), (2, (5, 3)), (4, (64, 32)), (2, (1, 1)), (1, (33, 17))]
)
def test_grouped_heads_and_head_sizes(groups: int, sizes: tuple[int, int]) -> None:
    own = SIZES | {"g": groups, "d": sizes[0], "e": sizes[1]}
    assert attention(sizes=own, envs=ENVS[:1]) == ["attention"]


@pytest.mark.parametrize("shape", [("q", "k"), ("b", 1, 1, "k"), ("h", "q", 1), (), (1, "h", 1, 1)])
@pytest.mark.parametrize(("dtype", "zero"), [("f32", False), ("bool", False), ("bool", True)])
def test_masks(shape: tuple, dtype: str, zero: bool) -> None:
    """Random boolean masks hide whole rows at times; those give NaN, or 0 if asked for."""
    attention(mask=(dtype, shape), envs=ENVS[:2], masked_zero=zero)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("zero", [False, True])
def test_infinity_and_nan_in_masks_and_operands(dtype: str, zero: bool) -> None:
    """NaN in what a row sees is NaN; only rows that see nothing are 0."""
    attention(dtype, mask=(dtype, ("q", "k")), envs=ENVS[::2], special=True, masked_zero=zero)


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("mask", [None, ("bool", ("q", "k"))])
def test_causality(end: bool, mask) -> None:
    envs = (*ENVS, {"b": 1, "q": 9, "k": 4}, {"b": 1, "q": 33, "k": 33})
    for zero in (False, True):
        attention(causal=True, causal_end=end, mask=mask, masked_zero=zero, envs=envs)


@pytest.mark.parametrize("env", [{"b": 0}, {"q": 0}, {"k": 0}], ids=str)
@pytest.mark.parametrize("zero", [False, True])
def test_nothing_to_look_at(env: dict[str, int], zero: bool) -> None:
    attention(envs=({"b": 2, "q": 3, "k": 4} | env,), masked_zero=zero)


@pytest.mark.parametrize(("dtype", "causal"), [("f64", True), ("f16", False), ("bf16", True)])
def test_other_types_are_decomposed(dtype: str, causal: bool) -> None:
    own = SIZES | {"g": 2}
    made = attention(dtype, sizes=own, envs=ENVS[:2], causal=causal, causal_end=True, axes=(
        "bqhd", "bkgd", "bkge", "bqhe"))  # fmt: skip
    assert "attention" not in made
    assert np.count_nonzero(np.array(made) == "contract") == 2


@pytest.mark.parametrize("mask", ["bool", "f64"])
def test_decomposed_masks(mask: str) -> None:
    attention("f64", mask=(mask, ("b", 1, "q", "k")), masked_zero=True, envs=ENVS[:2])


def test_head_sizes_that_are_symbolic_or_zero_are_decomposed() -> None:
    envs = tuple(e | {"d": 6, "e": 3} for e in ENVS[:2])
    own = SIZES | {"d": "d", "e": "e"}
    assert "attention" not in attention(sizes=own, envs=envs)
    assert "attention" not in attention(sizes=SIZES | {"d": 0}, envs=ENVS[:1])
