"""One layer of causal attention with a residual, whose products have weights."""

import numpy as np
from support.draft_graph import Draft

from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops.binary import Add
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.nn import Attention
from tilewright.compiler.ir.ops.shape import Reshape

RANDOM = np.random.default_rng(9)
D, HEADS, SIZE = 40, 4, 32


def weights(*shape):
    return (RANDOM.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


def attending(groups=HEADS, bias=False, rank=None, shown=False, turn=False):
    """Causal attention of one layer, with a residual. rank: of each group's values. shown: they
    are an output too. turn: the last product has its weights transposed."""
    draft = Draft(bounds=(1, 40))
    x = draft.input("x", "f32", "batch", "seq", D)
    made = {}
    for name, count in (("q", HEADS), ("k", groups), ("v", groups)):
        w = weights(D, count * SIZE)
        if name == "v" and rank is not None:
            parts = [weights(D, rank) @ weights(rank, SIZE) for _ in range(count)]
            w = np.concatenate(parts, axis=1)
        y = draft(Contract, a=x, b=draft.constant(w), spec="bsk,kn->bsn", source=name)
        if bias:
            y = draft(Add, a=y, b=draft.constant(weights(1, count * SIZE)[0]))
        shape = (sym("batch"), sym("seq"), count, SIZE)
        made[name] = draft(Reshape, x=y, shape=shape)
    axes = {"q_axes": "bqhd", "k_axes": "bkgd", "v_axes": "bkge", "out_axes": "bqhe"}
    out = draft(Attention, **made, scale=0.2, causal=True, **axes)
    out = draft(Reshape, x=out, shape=(sym("batch"), sym("seq"), HEADS * SIZE))
    w = weights(HEADS * SIZE, D)
    w = draft.constant(np.ascontiguousarray(w.T) if turn else w)
    spec = "bsk,nk->bsn" if turn else "bsk,kn->bsn"
    y = draft(Contract, a=out, b=w, spec=spec, source="out")
    y = draft(Add, a=x, b=y)
    return draft.graph(y, made["v"]) if shown else draft.graph(y)
