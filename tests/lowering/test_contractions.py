"""How contractions are classified, and that every way gives the reference's numbers."""

import pytest
from support.compiled_graph import check_graph, labels
from support.draft_graph import Draft, weights

from tilewright.backends.llvm.backend import Lowered
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import shape
from tilewright.compiler.ir.ops.contraction import Contract

SIZES = {"b": "b", "h": 3, "m": "m", "q": 5, "k": 12, "j": 4, "n": 10, "p": 2}
ENVS = ({"b": 2, "m": 7}, {"b": 1, "m": 1}, {"b": 3, "m": 0}, {"b": 0, "m": 2})


def einsum(spec: str, constant: str = "", envs=ENVS, sizes=SIZES, dtype: str = "f32"):
    """`spec` with the operands named in `constant` ("a", "b") as constants."""
    d = Draft()
    left, right = spec.split("->")[0].split(",")
    values = []
    for name, letters in (("a", left), ("b", right)):
        dims = [sizes[c] for c in letters]
        if name in constant:
            values.append(d.constant(weights(*dims)))
        else:
            values.append(d.input(name, dtype, *dims))
    y = d(Contract, a=values[0], b=values[1], spec=spec)
    used = {s for s in sizes.values() if isinstance(s, str)} & set(d.symbols)
    return check_graph(d.graph(y), *({n: e[n] for n in used} for e in envs), special=False)


def products(low: Lowered) -> list[str]:
    """The kernels other than copies, which operands and results in odd orders may need."""
    return [label for label in labels(low) if label != "copy"]


@pytest.mark.parametrize(
    ("spec", "constant"),
    [
        ("mk,kn->mn", "b"),
        ("mk,nk->mn", "b"),
        ("bmk,kn->bmn", "b"),
        ("bmk,kn->nbm", "b"),
        ("kn,mk->mn", "a"),
        ("bmkj,kjn->bmn", "b"),
        ("bmkj,jkn->bmn", "b"),
        ("bkmj,jkn->mbn", "b"),
        ("bmk,knp->bpmn", "b"),
        ("k,kn->n", "b"),
        ("mk,k->m", "b"),
        ("m,n->mn", "b"),
    ],
)
def test_constant_weights_take_the_packed_kernel(spec: str, constant: str) -> None:
    assert products(einsum(spec, constant)) == ["matmul"]


@pytest.mark.parametrize(
    "spec",
    [
        "mk,kn->mn",
        "bmk,bkn->bmn",
        "bmk,bnk->bmn",
        "bkm,bkn->bmn",
        "bmk,bkn->mbn",
        "bhmk,bhkn->bhmn",
        "bmhk,bnhk->bhmn",
        "bhmk,bkhn->bmhn",
        "bmqk,bkn->bqmn",
        "bmk,bkqp->bpmq",
        "bmkj,bjkn->bmn",
        "bmkj,bkjn->nmb",
        "m,n->mn",
        "bm,bn->bmn",
        "bm,bm->bm",
        "k,k->",
        "bk,bk->b",
        "mk,k->m",
    ],
)
def test_two_computed_operands_take_the_batched_kernel(spec: str) -> None:
    assert products(einsum(spec)) == ["batched_matmul"]


def test_a_letter_shared_with_the_result_keeps_constants_in_the_batched_kernel() -> None:
    assert products(einsum("hmk,hkn->hmn", "b")) == ["batched_matmul"]


@pytest.mark.parametrize(("m", "k", "n"), [(0, 4, 3), (2, 0, 3), (2, 4, 0), (0, 0, 0), (1, 1, 1)])
@pytest.mark.parametrize("constant", ["", "b"])
def test_sizes_of_zero_and_one(m: int, k: int, n: int, constant: str) -> None:
    einsum("mk,kn->mn", constant, ({},), {"m": m, "k": k, "n": n})


@pytest.mark.parametrize(("k", "n"), [(1, 1), (7, 31), (1, 33)])
def test_narrow_weights(k: int, n: int) -> None:
    einsum("mk,kn->mn", "b", ENVS, {"m": "m", "k": k, "n": n})
    einsum("mk,kn->mn", "", ENVS, {"m": "m", "k": k, "n": n})


def test_a_sum_over_a_symbolic_axis_that_is_empty_at_run_time_gives_zeros() -> None:
    sizes = {"m": 3, "k": "k", "n": 5}
    einsum("mk,kn->mn", "", ({"k": 0}, {"k": 1}, {"k": 9}), sizes)


@pytest.mark.parametrize("dtype", ["f64", "f16", "i32", "i64"])
def test_other_types_take_the_general_nest(dtype: str) -> None:
    assert products(einsum("bmk,bnk->bnm", dtype=dtype)) == ["contract"]


@pytest.mark.parametrize("types", [("i8", "u8"), ("u8", "i8"), ("i8", "i8")])
def test_bytes_accumulate_in_32_bits(types: tuple[str, str]) -> None:
    d = Draft()
    a, b = d.input("a", types[0], "m", 300), d.input("b", types[1], 300, 5)
    check_graph(d.graph(d(Contract, a=a, b=b, spec="mk,kn->mn")), {"m": 3})


@pytest.mark.parametrize("constant", ["", "b"])
def test_operands_that_are_views(constant: str) -> None:
    """Batch axes broadcast with stride 0, rows sliced, columns reversed."""
    d = Draft()
    x = d.input("x", "f32", 1, "m", 24)
    wide = d(shape.Broadcast, x=x, shape=(3, sym("m"), 24))
    part = d(shape.Slice, x=wide, starts=(0, 0, 6), steps=(1, 1, 1), shape=(3, sym("m"), 12))
    back = d(shape.Slice, x=wide, starts=(0, 0, 23), steps=(1, 1, -2), shape=(3, sym("m"), 12))
    w = d.constant(weights(3, 12, 10)) if constant else d.input("w", "f32", 3, 12, 10)
    y = d(Contract, a=part, b=w, spec="bmk,bkn->bmn")
    z = d(Contract, a=back, b=w, spec="bmk,bkn->bnm")
    flat = d(shape.Reshape, x=part, shape=(sym("m") * 3, 12))
    v = d.constant(weights(12, 7))
    u = d(Contract, a=flat, b=v, spec="mk,kn->mn")
    check_graph(d.graph(y, z, u), {"m": 4}, {"m": 1}, {"m": 0}, special=False)


def test_the_same_weights_in_one_order_are_stored_once() -> None:
    d = Draft()
    x, w = d.input("x", "f32", "m", 16), d.constant(weights(16, 16))
    one = d(Contract, a=x, b=w, spec="mk,kn->mn")
    two = d(Contract, a=one, b=w, spec="mk,kn->mn")
    turned = d(Contract, a=two, b=w, spec="mk,nk->mn")
    low = check_graph(d.graph(one, two, turned), {"m": 5}, special=False)
    assert len(low.weights) == 2


def test_the_same_tensor_on_both_sides() -> None:
    d = Draft()
    x = d.input("x", "f32", "m", 16)
    check_graph(
        d.graph(
            d(Contract, a=x, b=x, spec="mk,nk->mn"),
            d(Contract, a=x, b=x, spec="km,kn->nm"),
            d(Contract, a=x, b=x, spec="mk,mk->m"),
        ),
        {"m": 5},
        special=False,
    )
