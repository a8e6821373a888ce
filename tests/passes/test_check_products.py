"""Checked products in the reference interpreter: every form, and weights that have changed."""

import numpy as np
import pytest
from support.value_kinds import ROWS

from tilewright.backends import reference
from tilewright.backends.reference.interpreter import DataError
from tilewright.compiler.driver import run_passes
from tilewright.compiler.ir.ops.control import Guard
from tilewright.compiler.ir.parse import parse_graph
from tilewright.compiler.ir.weights import WeightStore, from_array
from tilewright.passes.pipelines import CHECKED, FUSE, run_pipeline

SPECS = {
    "mk,kn->mn": ((5, 70), (70, 130)),
    "mk,nk->mn": ((5, 70), (128, 70)),
    "nk,mk->nm": ((6, 30), (7, 30)),
    "kn,bkm->bnm": ((30, 8), (2, 30, 7)),
    "bmk,kn->bmn": ((2, 3, 20), (20, 1)),
    "bmk,bkn->bmn": ((2, 3, 20), (2, 20, 64)),
    "bmkj,kjnh->bmnh": ((2, 3, 4, 5), (4, 5, 6, 8)),
    "mbk,bkn->bnm": ((3, 2, 20), (2, 20, 6)),
}


@pytest.mark.parametrize("kind", ["f32", "f64", "i8", "i32"])
@pytest.mark.parametrize("spec", SPECS)
def test_every_form_of_contraction(spec, kind):
    """In the reference interpreter: no alarm for the weights, one for any that has changed."""
    rng = np.random.default_rng(7)
    left, right = SPECS[spec]
    constant = 0 if spec.startswith(("nk,mk", "kn,bkm")) else 1
    shape, other = (left, right) if constant == 0 else (right, left)
    dtype = np.dtype({"f": "f", "i": "i"}[kind[0]] + str(int(kind[1:]) // 8))
    draw = rng.standard_normal if kind[0] == "f" else (lambda s: rng.integers(-9, 10, s))
    weight, x = draw(shape).astype(dtype), draw(other).astype(dtype)
    out = spec.split("->")[1]
    sizes = dict(zip(spec.split("->")[0].replace(",", ""), (*left, *right), strict=True))
    to = f"{'i32' if kind == 'i8' else kind}{[sizes[c] for c in out]}"
    text = (
        f"graph @g(%x: {kind}{list(other)}) {{\n"
        f'  %w = constant {{name = "w", type = {kind}{list(shape)}}} : {kind}{list(shape)}\n'
        f"  %y = contract {'%w, %x' if constant == 0 else '%x, %w'}"
        f' {{spec = "{spec}"}} : {to}  @"product"\n  return %y as "y"\n}}\n'
    )
    plain = parse_graph(text, weights=WeightStore({"w": from_array(weight)}))
    checked = run_passes(plain, CHECKED)
    assert any(isinstance(op, Guard) for op in checked.ops)
    (want,), (found,) = reference.run(plain, [x]), reference.run(checked, [x])
    np.testing.assert_allclose(found, want, 1e-5, 1e-5)
    for _ in range(10):
        changed = weight.copy()
        changed[tuple(rng.integers(shape))] += 3
        damaged = checked.replace(weights=checked.weights.merged({"w": from_array(changed)}))
        with pytest.raises(DataError, match="node 'product': its product is not what its checksum"):
            reference.run(damaged, [x])


@pytest.mark.parametrize("kind", ["f32", "f64", "i8"])
@pytest.mark.parametrize("channels", [1, 5, 128])
def test_convolutions(kind, channels):
    """In the reference interpreter, with steps, dilation and pads that count as a zero point."""
    rng = np.random.default_rng(10)
    dtype = np.dtype({"f": "f", "i": "i"}[kind[0]] + str(int(kind[1:]) // 8))
    draw = rng.standard_normal if kind[0] == "f" else (lambda s: rng.integers(-128, 128, s))
    weight, x = draw((3, 2, 6, channels)).astype(dtype), draw((2, 9, 8, 6)).astype(dtype)
    fill = "  %z = fill {value = 3, type = i8[]} : i8[]\n" if kind == "i8" else ""
    text = (
        f"graph @g(%x: {kind}[2, 9, 8, 6]) {{\n{fill}"
        f'  %w = constant {{name = "w", type = {kind}[3, 2, 6, {channels}]}}'
        f" : {kind}[3, 2, 6, {channels}]\n"
        f"  %y = conv %x, %w{', %z' if fill else ''} {{strides = [2, 1], pads_low = [1, 0],"
        " pads_high = [2, 1], dilations = [1, 2], groups = 1}"
        f' : {"i32" if fill else kind}[2, 5, 7, {channels}]  @"product"\n  return %y as "y"\n}}\n'
    )
    plain = parse_graph(text, weights=WeightStore({"w": from_array(weight)}))
    checked = run_passes(plain, CHECKED)
    (want,), (found,) = reference.run(plain, [x]), reference.run(checked, [x])
    np.testing.assert_allclose(found, want, 1e-5, 1e-5)
    for _ in range(10):
        changed = weight.copy()
        changed[tuple(rng.integers(weight.shape))] += 3
        damaged = checked.replace(weights=checked.weights.merged({"w": from_array(changed)}))
        with pytest.raises(DataError, match="node 'product': its product is not what its checksum"):
            reference.run(damaged, [x])


def test_random_products_raise_no_alarm():
    """Sizes, signs and scales of 150 products, weights of a kind of `ROWS` too, in the reference
    interpreter's f32: what is not finite, too large or too small passes."""
    rng = np.random.default_rng(8)
    for turn in range(150):
        m, k, n = (int(s) for s in rng.integers(1, (9, 300, 200)))
        kinds = rng.choice(list(ROWS), 2)
        x, w = (
            ROWS[r](rng, s).astype(np.float32) for r, s in zip(kinds, ((m, k), (k, n)), strict=True)
        )
        text = (
            f"graph @g(%x: f32[{m}, {k}]) {{\n"
            f'  %w = constant {{name = "w", type = f32[{k}, {n}]}} : f32[{k}, {n}]\n'
            f'  %y = contract %x, %w {{spec = "mk,kn->mn"}} : f32[{m}, {n}]  @"product"\n'
            '  return %y as "y"\n}\n'
        )
        plain = parse_graph(text, weights=WeightStore({"w": from_array(w)}))
        checked = run_pipeline(plain, ("check-products",))
        assert any(isinstance(op, Guard) for op in checked.ops), turn
        with np.errstate(all="ignore"):
            reference.run(checked, [x])


def test_everything_else_is_fused_as_without_checks():
    added = ("check-products", "share-common-subexpressions")
    assert tuple(name for name in CHECKED if name not in added) == FUSE
    assert CHECKED.index("check-products") < CHECKED.index("fuse-epilogues")
