"""Mixtures of experts: every expert multiplies the rows that chose it, and no others."""

from __future__ import annotations

import numpy as np

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term
from tilewright.compiler.ir.core import Op, Value
from tilewright.compiler.ir.dims import product
from tilewright.compiler.ir.ops import unary
from tilewright.compiler.ir.ops.control import NonZero
from tilewright.compiler.ir.ops.reduce import TopK
from tilewright.compiler.ir.ops.shape import GatherNd, ScatterNd

ACTIVATIONS: dict[str, type[Op] | None] = {
    "relu": unary.Relu,
    "gelu": unary.GeluTanh,
    "silu": unary.Silu,
    "identity": None,
}
"""As ONNX Runtime computes them, GELU by tanh."""


@onnx_op("MoE", domain="com.microsoft")
def mixture(ctx: Import, node: Node) -> Value:
    """The sum over the k experts of greatest softmax (router_probs) of that share times
    `fc2 act(fc1 x + b1) + b2`; with fc3, act(..) times `fc3 x + b3`.

    Rows are gathered for each expert, so that one that no row chose costs nothing, and its products
    have constant weights of their own.
    """
    x, router = Term(ctx, node.input(0)), Term(ctx, node.input(1))
    name = node.attr("activation_type", "relu")
    if name not in ACTIVATIONS:
        found = f"expected one of {', '.join(ACTIVATIONS)}, found {name}"
        ctx.fail(node, "the activation of experts is not supported", found)
    if node.attr("use_sparse_mixer", 0):
        hint = "export with use_sparse_mixer 0, or the router as operators of its own"
        ctx.fail(node, "routing by sparse mixer is not supported", hint=hint)
    weights = {
        slot: _known(ctx, node, slot) for slot in range(2, 8) if node.maybe(slot) is not None
    }
    count, k = len(weights[2]), node.attr("k", 1)
    rows = x.reshape(product(x.dims[:-1]), x.dims[-1])
    shares, which = _routes(ctx, router, k, bool(node.attr("normalize_routing_weights", 0)))
    total = rows * 0.0
    for expert in range(count):
        own = {slot: array[expert] for slot, array in weights.items()}
        mine = which.equals(expert)
        chosen = ctx.data_symbol(f"expert_{len(ctx.symbols)}", mine.value.type.elements)
        at = mine.apply(NonZero, count=chosen).transpose(1, 0)
        place = at.slice(1, 0, 1)
        taken = rows.gather(place.reshape(chosen), 0)
        hidden = _layer(ctx, taken, own[2], own.get(3))
        act = ACTIVATIONS[name]
        hidden = hidden if act is None else hidden.apply(act)
        if 6 in own:
            hidden = hidden * _layer(ctx, taken, own[6], own.get(7))
        made = _layer(ctx, hidden, own[4], own.get(5))
        share = shares.apply(GatherNd, indices=at.value, batch_dims=0).unsqueeze(1)
        made = made * share
        total = total.apply(ScatterNd, indices=place.value, updates=made.value, reduction="add")
    return total.reshape(*x.dims).value


def _routes(ctx: Import, router: Term, k: int, normalized: bool) -> tuple[Term, Term]:
    """Shares and numbers of the experts of every row, [rows, k]."""
    values, which = ctx.emit_multi(TopK, x=router.softmax(1).value, k=k, axis=1, largest=True)
    shares = Term(ctx, values)
    return (shares / shares.sum([1]) if normalized else shares), Term(ctx, which)


def _layer(ctx: Import, x: Term, w: np.ndarray, bias: np.ndarray | None) -> Term:
    """x W^T + bias, W [N, K]."""
    made = x.contract("mk,nk->mn", ctx.constant(np.ascontiguousarray(w), "expert"))
    return made if bias is None else made + ctx.constant(np.ascontiguousarray(bias), "expert")


def _known(ctx: Import, node: Node, slot: int) -> np.ndarray:
    array = ctx.array(node.input(slot))
    if array is None:
        hint = "make the weights of experts initializers"
        ctx.fail(node, f"input {slot} is not constant", f"{node.input(slot).type}", hint)
    return array
