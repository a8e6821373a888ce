"""A small decoder whose blocks add to one residual stream."""

import numpy as np
from support.draft_graph import Draft

from tilewright.compiler.ir.ops.binary import Add, Mul
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.nn import LayerNorm, RmsNorm
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.ops.unary import Silu

RANDOM = np.random.default_rng(3)
D, WORDS = 24, 50


def weights(*shape):
    return (RANDOM.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)


def decoder(layers=2, centred=False, table=None, out=None):
    """Tokens to logits: pre-norm gated blocks, a position that is added, biases where `centred`,
    a table that is multiplied with too, and weights that lie transposed. out: of makers, multiplied
    from behind."""
    draft = Draft(bounds=(1, 64))
    ids = draft.input("ids", "i64", "batch", "seq")
    lookup = weights(D, WORDS).T.copy() * 3 if table is None else table
    words = draft.constant(lookup)
    turn = np.eye(D, dtype=np.float32) if out is None else out
    x = draft(Gather, x=words, indices=ids, axis=0)
    x = draft(Add, a=x, b=draft.constant(weights(1, D)[0] @ turn))

    def norm(value):
        scale = draft.constant(RANDOM.uniform(0.5, 2, D).astype(np.float32))
        if not centred:
            return draft(RmsNorm, x=value, scale=scale, axis=2, eps=1e-3)
        bias = draft.constant(weights(1, D)[0])
        return draft(LayerNorm, x=value, scale=scale, bias=bias, axis=2, eps=1e-3)

    for _ in range(layers):
        read = norm(x)
        gate = draft(Contract, a=read, b=draft.constant(weights(D, 40)), spec="bsk,kn->bsn")
        up = draft.constant(weights(40, D))
        up = draft(Contract, a=read, b=up, spec="bsk,nk->bsn")
        h = draft(Mul, a=draft(Silu, x=gate), b=up)
        y = draft(Contract, a=h, b=draft.constant(weights(40, D) @ turn), spec="bsk,kn->bsn")
        if centred:
            y = draft(Add, a=y, b=draft.constant(weights(1, D)[0] @ turn))
        x = draft(Add, a=x, b=y)
    logits = draft(Contract, a=norm(x), b=words, spec="bsk,nk->bsn")
    return draft.graph(logits)


def feeds():
    return {"ids": RANDOM.integers(0, WORDS, (3, 7))}


def few_dimensions(rank, centred=False):
    """A decoder that adds to `rank` dimensions of its stream alone."""
    few = RANDOM.standard_normal((D, rank)) @ RANDOM.standard_normal((rank, D)) / 5
    table = (weights(D, WORDS).T @ few).astype(np.float32)
    return decoder(centred=centred, table=table, out=few.astype(np.float32))
