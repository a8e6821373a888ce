"""The activation functions that recurrent operators name in attributes."""

from collections.abc import Callable, Sequence

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.terms import Term
from tilewright.compiler.ir.ops import unary

# Every function with its default alpha and beta; None where the operator has no such parameter.
_KNOWN: dict[str, tuple[float | None, float | None, Callable[[Term, float, float], Term]]] = {
    "relu": (None, None, lambda x, a, b: x.apply(unary.Relu)),
    "tanh": (None, None, lambda x, a, b: x.apply(unary.Tanh)),
    "sigmoid": (None, None, lambda x, a, b: x.apply(unary.Sigmoid)),
    "softsign": (None, None, lambda x, a, b: x / (x.abs() + 1.0)),
    "softplus": (None, None, lambda x, a, b: x.apply(unary.Softplus)),
    "affine": (1.0, 0.0, lambda x, a, b: x * a + b),
    "leakyrelu": (0.01, None, lambda x, a, b: (x >= 0.0).where(x, x * a, x.dtype)),
    "thresholdedrelu": (1.0, None, lambda x, a, b: (x >= a).where(x, 0.0, x.dtype)),
    "scaledtanh": (1.0, 1.0, lambda x, a, b: (x * b).apply(unary.Tanh) * a),
    "hardsigmoid": (0.2, 0.5, lambda x, a, b: (x * a + b).clip(0.0, 1.0)),
    "elu": (1.0, None, lambda x, a, b: (x >= 0.0).where(x, (x.exp() - 1.0) * a, x.dtype)),
}


def gate_functions(
    ctx: Import,
    node: Node,
    names: Sequence[str],
    alphas: Sequence[float] | None,
    betas: Sequence[float] | None,
    first: int,
) -> list[Callable[[Term], Term]]:
    """The functions called `names`.

    `alphas` and `betas` are consumed in order by all activations of the node that have the
    parameter; `first` activations come before `names`. Refuses unknown names.
    """
    every = [n.lower() for n in node.attr("activations", None) or ()]
    used_alpha = sum(1 for n in every[:first] if n in _KNOWN and _KNOWN[n][0] is not None)
    used_beta = sum(1 for n in every[:first] if n in _KNOWN and _KNOWN[n][1] is not None)
    found = []
    for name in names:
        if name.lower() not in _KNOWN:
            ctx.fail(node, f"activation {name!r} is unknown", f"known: {', '.join(_KNOWN)}")
        alpha, beta, function = _KNOWN[name.lower()]
        a, b = alpha or 0.0, beta or 0.0
        if alpha is not None:
            a = alphas[used_alpha] if alphas and used_alpha < len(alphas) else a
            used_alpha += 1
        if beta is not None:
            b = betas[used_beta] if betas and used_beta < len(betas) else b
            used_beta += 1
        found.append(_bound(function, float(a), float(b)))
    return found


def _bound(
    function: Callable[[Term, float, float], Term], alpha: float, beta: float
) -> Callable[[Term], Term]:
    return lambda x: function(x, alpha, beta)
