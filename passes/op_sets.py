"""Kinds of operations that several passes treat alike."""

from tilewright.compiler.ir.core import OPS, Op
from tilewright.compiler.ir.ops import binary, unary
from tilewright.compiler.ir.ops.binary import (
    Add,
    Div,
    Eq,
    Ge,
    Gt,
    Le,
    Lt,
    Max,
    Min,
    Mul,
    Sub,
    Where,
)
from tilewright.compiler.ir.ops.unary import (
    Abs,
    Cast,
    Erf,
    Exp,
    Gelu,
    GeluTanh,
    Log,
    Neg,
    Relu,
    Round,
    Sigmoid,
    Silu,
    Sqrt,
    Tanh,
)

UNARY: frozenset[type[Op]] = frozenset(
    c for c in OPS.values() if c.__module__ == unary.__name__ and c.operand_fields == ("x",)
)
"""Elementwise operations of one operand `x`."""

BROADCASTING: frozenset[type[Op]] = frozenset(
    c for c in OPS.values() if c.__module__ == binary.__name__
)
"""Elementwise operations of two or three operands that broadcast."""

ELEMENTWISE = UNARY | BROADCASTING

EPILOGUE_OPS: frozenset[type[Op]] = frozenset(
    {
        *(Add, Sub, Mul, Div, Min, Max, Where, Eq, Lt, Le, Gt, Ge),
        *(Neg, Abs, Sqrt, Exp, Log, Erf, Tanh, Sigmoid, Relu, Gelu, GeluTanh, Silu, Cast, Round),
    }
)
"""What the epilogue of a contraction may hold, besides `fill` for its literals."""
