"""Key-value caches in codes: the formats, and graphs whose caches are stored so."""

import json

import numpy as np
import pytest
from support.draft_graph import Draft

from tilewright.backends import reference
from tilewright.compiler.formats.caches import CACHES, RECORD, rotate
from tilewright.compiler.ir.dims import evaluate
from tilewright.compiler.ir.ops.nn import Attention
from tilewright.compiler.ir.ops.shape import Concat, Reshape, Slice, Transpose
from tilewright.compiler.ir.ops.unary import Cast, Neg
from tilewright.compiler.ir.types import DType
from tilewright.compiler.ir.verify import verify
from tilewright.passes.quantization.caches import Cache, quantize_caches

SIZE, GROUPS = 16, 2
FORMATS = tuple(CACHES)


@pytest.mark.parametrize("size", [8, 16, 64, 48, 80, 256])
def test_rotation_is_its_own_inverse_and_keeps_products(size: int) -> None:
    x, y = np.random.default_rng(size).standard_normal((2, 5, size))
    block = size & -size
    np.testing.assert_allclose(rotate(rotate(x, block), block), x, atol=1e-12)
    np.testing.assert_allclose((rotate(x, block) * rotate(y, block)).sum(-1), (x * y).sum(-1))


def test_rotation_spreads_a_large_element_over_its_block() -> None:
    x = np.zeros((1, 64))
    x[0, 5] = 8.0
    np.testing.assert_allclose(np.abs(rotate(x, 64)), 1.0)
    spread = np.random.default_rng(0).standard_normal((200, 64))
    spread[:, 3] *= 20  # one channel that is always large
    made = CACHES["int4"]
    off = {name: CACHES[name].rounded(spread) - spread for name in FORMATS}
    assert np.linalg.norm(off["int4"]) < 0.08 * np.linalg.norm(spread)
    plain = np.clip(np.rint(spread / np.abs(spread).max(-1, keepdims=True) * 7), -7, 7)
    plain = plain * np.abs(spread).max(-1, keepdims=True) / 7 - spread
    others = np.arange(64) != 3
    assert np.linalg.norm(off["int4"][:, others]) < 0.5 * np.linalg.norm(plain[:, others])
    assert made.width(64) == 32


@pytest.mark.parametrize("name", FORMATS)
def test_no_element_is_off_by_more_than_half_a_step(name: str) -> None:
    x = np.random.default_rng(3).standard_normal((50, 64)).astype(np.float32)
    made = CACHES[name]
    codes, scales = made.encode(x)
    off = rotate(made.decode(codes, scales) - x, made.block(64))
    assert (np.abs(off) <= 0.5001 * scales[:, None]).all()
    again, same = made.encode(made.decode(codes, scales).astype(np.float32))
    np.testing.assert_allclose(same, scales, rtol=1e-6)
    np.testing.assert_array_equal(again, codes)


@pytest.mark.parametrize("name", FORMATS)
def test_rows_without_a_scale(name: str) -> None:
    x = np.ones((4, 16), np.float32)
    x[0, 3], x[1, 3], x[2], x[3] = np.nan, np.inf, 0, 1e-42
    codes, scales = CACHES[name].encode(x)
    assert np.isnan(scales[:2]).all()
    np.testing.assert_array_equal(scales[2:], 0)
    back = CACHES[name].decode(codes, scales)
    assert np.isnan(back[:2]).all()
    np.testing.assert_array_equal(back[2:], 0)


def decoder(layout: str = "bgkd", dtype: str = "f32", stacked: bool = False):
    """A graph of attention over a past and new rows that gives both back; and its new rows."""
    d = Draft((0, 64))
    sizes = {"b": "b", "g": GROUPS, "k": "past", "d": SIZE}
    shape = [sizes[c] for c in layout]
    axis = layout.index("k")
    q = d.input("q", "f32", "b", 6, "n", SIZE)
    outputs, rows = [], []
    for part in "kv":
        if stacked:
            old = d.input(f"past_{part}", dtype, 2, *shape)
            dims = old.shape[1:]
            old = d(Slice, x=old, starts=(1, 0, 0, 0, 0), steps=(1,) * 5, shape=(1, *dims))
            old = d(Reshape, x=old, shape=dims)
        else:
            old = d.input(f"past_{part}", dtype, *shape)
        new = d.input(f"new_{part}", "f32", *("n" if c == "k" else sizes[c] for c in layout))
        if dtype != "f32":
            old = d(Cast, x=old, dtype=DType.F32)
        new = d(Neg, x=new)
        whole = d(Concat, parts=(old, new), axis=axis)
        rows.append(whole)
        given = whole if dtype == "f32" else d(Cast, x=whole, dtype=DType.F16)
        if stacked:
            given = d(Reshape, x=given, shape=(1, *given.shape))
        outputs.append(given)
    v_axes = layout.replace("d", "e")
    y = d(Attention, q=q, k=rows[0], v=rows[1], scale=0.3, k_axes=layout, v_axes=v_axes)
    return d.graph(y, *outputs)


def feeds(graph, env):
    """Random arrays for the inputs."""
    rng = np.random.default_rng(7)
    shapes = {v: tuple(evaluate(d, env) for d in v.shape) for v in graph.inputs}
    return {v.name: rng.standard_normal(s).astype(v.dtype.numpy) for v, s in shapes.items()}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("env", [{"b": 2, "past": 9, "n": 1}, {"b": 1, "past": 0, "n": 3}], ids=str)
@pytest.mark.parametrize(
    "given",
    [{}, {"layout": "bkgd"}, {"stacked": True}, {"dtype": "f16"}],
    ids=lambda g: str(g) or "plain",
)
def test_attention_reads_what_codes_stand_for(name: str, env: dict, given: dict) -> None:
    """As the graph before, with every row rounded once."""
    graph, made = decoder(**given), CACHES[name]
    after, caches = quantize_caches(graph, name)
    verify(after)
    assert caches == (Cache(name, "out1", "past_k"), Cache(name, "out2", "past_v"))
    arrays = feeds(graph, env)
    coded = dict(arrays)
    for part in ("past_k", "past_v"):
        rows = arrays[part].astype(np.float32)
        coded[part], coded[f"{part}_scale"] = made.encode(rows)
        arrays[part] = made.decode(coded[part], coded[f"{part}_scale"]).astype(np.float32)
    found = dict(
        zip(
            after.output_names,
            reference.run(after, [coded[v.name] for v in after.inputs]),
            strict=True,
        )
    )
    if "dtype" in given:  # caches of f16 would be rounded once more
        graph = decoder()
    for part in "kv":
        arrays[f"new_{part}"] = -made.rounded(-arrays[f"new_{part}"])
    wanted = reference.run(graph, [arrays[v.name] for v in graph.inputs])
    np.testing.assert_allclose(found["out0"], wanted[0], rtol=1e-4, atol=1e-5)
    for at in (1, 2):
        rows = made.decode(found[f"out{at}"], found[f"out{at}_scale"])
        np.testing.assert_allclose(rows, wanted[at], rtol=1e-4, atol=1e-5)
    record = json.loads(after.metadata[RECORD])
    assert record[0] == {
        "format": name,
        "present": "out1",
        "present_scale": "out1_scale",
        "past": "past_k",
        "past_scale": "past_k_scale",
    }


def test_new_rows_are_stored_after_they_are_transposed() -> None:
    d = Draft((0, 64))
    q = d.input("q", "f32", "b", "s", 6, SIZE)
    rows = [d(Neg, x=d.input(p, "f32", "b", "s", GROUPS, SIZE)) for p in "kv"]
    turned = [d(Transpose, x=x, perm=(0, 2, 1, 3)) for x in rows]
    y = d(Attention, q=q, k=rows[0], v=rows[1], scale=0.3, causal=True, q_axes="bqhd",
          k_axes="bkgd", v_axes="bkge", out_axes="bqhe")  # fmt: skip
    after, caches = quantize_caches(d.graph(y, *turned), "int8")
    names = [op.opname for op in after.ops]
    assert names.count("encode_rows") == 2
    assert names.index("encode_rows") > names.index("transpose")
    assert "attention" in names  # rows that are all new are read as they were made
    assert [cache.past for cache in caches] == [None, None]
