"""Key-value caches in codes: rows are stored, attention reads them, in every layout."""

import numpy as np
import pytest
from support.compiled_graph import check_graph, labels
from support.draft_graph import Draft

from tilewright.compiler.formats.caches import CACHES
from tilewright.compiler.ir.ops.caches import CachedAttention, EncodeRows
from tilewright.compiler.ir.ops.shape import Concat, Reshape, Transpose

SIZES = {"b": "b", "h": 6, "g": 2, "q": "q", "k": "k", "d": 16, "e": 24}
ENVS = ({"b": 2, "q": 5, "k": 7}, {"b": 1, "q": 1, "k": 40}, {"b": 1, "q": 3, "k": 1})
FORMATS = tuple(CACHES)


def attention(name, envs=ENVS, axes=(), mask=None, sizes=SIZES, **fields):
    """The labels of a graph of one attention over codes."""
    d = Draft((0, 64))
    made = CACHES[name]
    layout = dict(zip(("q_axes", "k_axes", "v_axes", "out_axes"), axes, strict=False))
    q = d.input("q", "f32", *(sizes[c] for c in layout.get("q_axes", "bhqd")))
    values = {}
    for one, plain in (("k", "bgkd"), ("v", "bgke")):
        letters = layout.get(f"{one}_axes", plain)
        rows = [sizes[c] for c in letters[:-1]]
        width = made.width(sizes[letters[-1]])
        values[one] = d.input(one, made.dtype, *rows, width)
        values[f"{one}_scale"] = d.input(f"{one}_scale", "f32", *rows)
    if mask is not None:
        values["mask"] = d.input("mask", mask[0], *(sizes.get(c, c) for c in mask[1]))
    y = d(
        CachedAttention, q=q, **values, **layout, format=name, d=sizes["d"], e=sizes["e"],
        scale=0.3, **fields,
    )  # fmt: skip
    return labels(check_graph(d.graph(y), *envs, special=False, scale=4))


@pytest.mark.parametrize("name", FORMATS)
def test_the_usual_layouts_need_one_kernel_and_no_copy(name: str) -> None:
    assert attention(name, axes=("bqhd",), envs=ENVS) == ["cached_attention"]


@pytest.mark.parametrize(
    "axes",
    [("bqhd", "bkgd", "bkge", "bqhe"), ("dhbq", "kbgd", "gkbe", "ehqb"), ("hqbd", "gbkd")],
)
def test_layouts(axes: tuple[str, ...]) -> None:
    assert "cached_attention" in attention("int4", axes=axes, envs=ENVS[:2])


@pytest.mark.parametrize("shape", [("q", "k"), ("b", 1, 1, "k"), (1, "h", 1, 1)])
@pytest.mark.parametrize("dtype", ["f32", "bool"])
def test_masks(shape: tuple, dtype: str) -> None:
    attention("int8", mask=(dtype, shape), envs=ENVS[:2], masked_zero=dtype == "bool")


@pytest.mark.parametrize("end", [False, True])
def test_causality(end: bool) -> None:
    attention("int4", causal=True, causal_end=end, envs=(*ENVS, {"b": 1, "q": 9, "k": 4}))


@pytest.mark.parametrize("env", [{"b": 0}, {"q": 0}, {"k": 0}], ids=str)
def test_nothing_to_look_at(env: dict[str, int]) -> None:
    attention("int8", envs=({"b": 2, "q": 3, "k": 4} | env,))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", [("s", 64), (3, "b", "s", 2, 16), ("b", 4, "s", 24)], ids=str)
def test_rows_of_any_rank(name: str, shape: tuple) -> None:
    d = Draft((0, 64))
    codes, scales = d(EncodeRows, x=d.input("x", "f32", *shape), format=name)
    low = check_graph(d.graph(codes, scales), {"b": 2, "s": 5}, {"b": 1, "s": 0}, special=False)
    assert labels(low) == ["encoded_rows"]


@pytest.mark.parametrize("name", FORMATS)
def test_rows_with_another_order_of_axes(name: str) -> None:
    d = Draft((0, 64))
    x = d(Transpose, x=d.input("x", "f32", "b", "s", 4, 16), perm=(0, 2, 1, 3))
    codes, scales = d(EncodeRows, x=x, format=name)
    low = check_graph(d.graph(codes, scales), {"b": 2, "s": 5}, special=False)
    assert labels(low) == ["encoded_rows"]


@pytest.mark.parametrize("name", FORMATS)
def test_rows_that_are_not_finite_have_no_scale(name: str) -> None:
    d = Draft((0, 64))
    codes, scales = d(EncodeRows, x=d.input("x", "f32", "s", 16), format=name)
    x = np.ones((4, 16), np.float32)
    x[0, 3], x[1, 5], x[2] = np.nan, -np.inf, 0
    check_graph(d.graph(codes, scales), feeds=[x])


@pytest.mark.parametrize("name", FORMATS)
def test_layers_write_their_rows_into_one_output(name: str) -> None:
    d = Draft((0, 64))
    size, layers = (1, 1, 2, "s"), []
    for i in range(3):
        made = d(EncodeRows, x=d.input(f"x{i}", "f32", *size[1:], 16), format=name)
        width = CACHES[name].width(16)
        s = made[0].shape[2]
        layers.append((
            d(Reshape, x=made[0], shape=(1, 1, 2, s, width)),
            d(Reshape, x=made[1], shape=(1, 1, 2, s)),
        ))  # fmt: skip
    codes = d(Concat, parts=tuple(c for c, _ in layers), axis=0)
    scales = d(Concat, parts=tuple(s for _, s in layers), axis=0)
    low = check_graph(d.graph(codes, scales), {"s": 5}, {"s": 1}, special=False)
    assert labels(low) == ["encoded_rows"] * 3
