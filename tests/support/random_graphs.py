"""Seeded random graphs over most operations, with known and symbolic dimensions."""

from __future__ import annotations

import random

import numpy as np
from support.draft_graph import tensor
from support.random_movements import Movements
from support.random_values import FLOATS, INTS, elements, fits

from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.dims import product, sym
from tilewright.compiler.ir.ops import binary, leaf, nn, reduce, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.control import If, Loop, NonZero
from tilewright.compiler.ir.types import DType, TensorType

EXACT_UNARY = (unary.Neg, unary.Abs, unary.Relu, unary.Sign, unary.Floor, unary.Ceil, unary.Round)
SMOOTH_UNARY = (
    unary.Tanh, unary.Sigmoid, unary.Erf, unary.Sin, unary.Cos, unary.Silu, unary.Gelu,
    unary.GeluTanh, unary.Softplus, unary.Exp, unary.Atan,
)  # fmt: skip
ENVS = ({"n": 3, "m": 2}, {"n": 1, "m": 1}, {"n": 0, "m": 4}, {"n": 5, "m": 0}, {"n": 17, "m": 9})


class Maker(Movements):
    """Grows one graph, an operation at a time."""

    def elementwise(self) -> None:
        value = self.floats()
        if value is None:
            return
        if self.rng.random() < 0.5:
            cls = self.rng.choice(EXACT_UNARY)
            if cls in EXACT_UNARY[3:] and value not in self.exact:
                cls = unary.Neg
            self.emit(cls, x=value, exact=self.same(value))
        else:
            self.emit(self.rng.choice(SMOOTH_UNARY), x=self.tame(value))

    def arithmetic(self) -> None:
        a = self.pick(lambda v: v.dtype != DType.BOOL)
        if a is None:
            return
        b = self.partner(a)
        cls = self.rng.choice((binary.Add, binary.Sub, binary.Mul, binary.Min, binary.Max))
        if self.rng.random() < 0.5:
            a, b = b, a
        made = self.emit(cls, a=a, b=b, exact=self.same(a, b))
        if made.dtype.is_float and cls is binary.Mul:
            self.tame(made)

    def division(self) -> None:
        a = self.pick(lambda v: v.dtype != DType.BOOL)
        if a is None:
            return
        if a.dtype.is_float:
            one = self.array(a.dtype, ())
            below = self.emit(binary.Max, a=self.emit(unary.Abs, x=self.partner(a)), b=one)
            self.emit(binary.Div, a=a, b=self.emit(unary.Exp, x=self.emit(unary.Tanh, x=below)))
        else:
            b = self.partner(a)
            cls = self.rng.choice((binary.Div, binary.Mod, binary.Fmod, binary.BitAnd,
                                   binary.BitOr, binary.BitXor))  # fmt: skip
            self.emit(cls, a=a, b=b, exact=True)

    def decide(self) -> None:
        a = self.pick(lambda v: v in self.exact and v.dtype != DType.BOOL)
        if a is None:
            return
        b = self.partner(a)
        if not self.same(a, b):
            return
        cls = self.rng.choice((binary.Eq, binary.Lt, binary.Le, binary.Gt, binary.Ge))
        seen = self.emit(cls, a=a, b=b, exact=True)
        if self.rng.random() < 0.3:
            seen = self.emit(unary.Not, x=seen, exact=True)
        x = self.pick(lambda v: v.dtype != DType.BOOL and fits(v, seen))
        if x is not None:
            y = self.partner(x)
            if fits(y, seen):
                self.emit(binary.Where, condition=seen, a=x, b=y, exact=self.same(x, y))

    def convert(self) -> None:
        value = self.pick()
        if value is None:
            return
        kinds = FLOATS if value.dtype.is_float and value not in self.exact else FLOATS + INTS
        dtype = self.rng.choice((*kinds, DType.BOOL) if value in self.exact else kinds)
        if value.dtype.is_float and not dtype.is_float and dtype != DType.BOOL:
            number = self.array(value.dtype, ())
            value = self.emit(binary.Min, a=value, b=number, exact=True)
            value = self.emit(binary.Max, a=value, b=number, exact=True)
        self.emit(unary.Cast, x=value, dtype=dtype, exact=value in self.exact)

    def reduction(self) -> None:
        value = self.pick(lambda v: v.rank > 0)
        if value is None:
            return
        axes = tuple(a for a in range(value.rank) if self.rng.random() < 0.5)
        kinds = ("any", "all") if value.dtype == DType.BOOL else ("sum", "max", "min", "mean")
        kind = self.rng.choice(kinds if value.dtype.is_float or value.dtype == DType.BOOL
                               else ("sum", "max", "min"))  # fmt: skip
        same = self.same(value) and (kind not in ("sum", "mean") or not value.dtype.is_float)
        made = self.emit(
            reduce.Reduce, x=value, kind=kind, axes=axes, keepdims=self.rng.random() < 0.6,
            exact=same)  # fmt: skip
        if kind == "sum" and made.dtype.is_float:
            self.tame(made)

    def rows(self) -> None:
        kind = self.rng.choice(("softmax", "log", "layer", "rms", "rope"))
        if kind in ("softmax", "log"):
            value = self.pick(lambda v: v.dtype in (DType.F32, DType.F64) and v.rank > 0)
        else:
            value = self.channels(1, 2, 3, 4, even=kind == "rope", f64=True)
        if value is None:
            return
        axis = self.rng.randrange(value.rank)
        last = value.shape[-1]
        if kind in ("softmax", "log"):
            self.emit(nn.Softmax, x=value, axis=axis, log=kind == "log")
        elif kind == "rope":
            half = (*value.shape[:-1], last // 2)
            x = self.emit(shape.Slice, x=value, starts=(0,) * value.rank,
                          steps=(1,) * value.rank, shape=half)  # fmt: skip
            cos, sin = self.emit(unary.Cos, x=x), self.emit(unary.Sin, x=x)
            self.emit(nn.Rope, x=value, cos=cos, sin=sin)
        else:
            scale = self.array(value.dtype, (last,))
            wide = self.emit(binary.Mul, a=self.emit(unary.Tanh, x=value), b=scale)
            extra = {"bias": self.array(value.dtype, (last,))} if kind == "layer" else {}
            cls = nn.LayerNorm if kind == "layer" else nn.RmsNorm
            self.emit(cls, x=wide, scale=scale, axis=value.rank - 1, eps=0.1, **extra)

    def scan(self) -> None:
        value = self.pick(lambda v: v.dtype in (DType.F32, DType.I64) and v.rank > 0)
        if value is None:
            return
        axis = self.rng.randrange(value.rank)
        size = value.shape[axis]
        kind = self.rng.choice(("cumulate", "arg", "top"))
        if kind == "cumulate":
            made = self.emit(
                reduce.Cumulate, x=value, kind="sum", axis=axis, exclusive=self.rng.random() < 0.3,
                reverse=self.rng.random() < 0.3, exact=value.dtype == DType.I64)  # fmt: skip
            if made.dtype.is_float:
                self.tame(made)
        elif value in self.exact and isinstance(size, int) and size:
            if kind == "arg":
                self.emit(reduce.ArgReduce, x=value, kind=self.rng.choice(("max", "min")),
                          axis=axis, last=self.rng.random() < 0.3, exact=True)  # fmt: skip
            else:
                pair = self.d(reduce.TopK, x=value, k=self.rng.randint(1, size), axis=axis,
                              largest=self.rng.random() < 0.5)  # fmt: skip
                for made in pair:
                    self.keep(made, True)

    def product(self) -> None:
        a = self.channels(1, 2, 3)
        if a is None:
            return
        k = a.shape[-1]
        letters = "abc"[: a.rank - 1]
        a = self.emit(unary.Tanh, x=a)
        if self.rng.random() < 0.6:
            n = self.rng.choice((1, 4, 5, 33))
            b = self.array(DType.F32, (k, n) if self.rng.random() < 0.5 else (n, k))
            right = "kn" if b.shape == (k, n) else "nk"
            if k == n:
                right = "kn"
            spec = f"{letters}k,{right}->{self.shuffled(letters + 'n')}"
        else:
            other = self.pick(lambda v: v.dtype == DType.F32 and v.rank == a.rank
                              and v.shape[-1] == k and v.shape[:-2] == a.shape[:-2])  # fmt: skip
            b = self.emit(unary.Tanh, x=other if other is not None else a)
            if a.rank < 2:
                spec = "k,k->"
            else:
                batch, row = letters[:-1], letters[-1]
                out = self.shuffled(batch + row + "n")
                spec = f"{letters}k,{batch}nk->{out}"
        self.contract(a, b, spec)

    def shuffled(self, letters: str) -> str:
        if self.rng.random() < 0.7:
            return letters
        return "".join(self.rng.sample(letters, len(letters)))

    def contract(self, a: Value, b: Value, spec: str) -> None:
        bare = Contract(a=a, b=b, spec=spec)
        kind = bare.out.type
        if self.rng.random() < 0.5:
            made = self.emit(Contract, a=a, b=b, spec=spec)
        else:
            extra = self.partner(Value(kind))
            if not fits(extra, bare.out):
                return
            cls = self.rng.choice((unary.Relu, unary.Tanh, unary.Silu, unary.Cos))
            body = self.d.region(
                (kind, extra.type),
                lambda acc, e: self.d(cls, x=self.d(binary.Add, a=acc, b=e)),
            )
            made = self.emit(Contract, a=a, b=b, extras=(extra,), spec=spec, body=body)
        self.tame(made)

    def convolution(self) -> None:
        x = self.channels(1, 2, 3)
        if x is None:
            return
        c = x.shape[-1]
        rows = product(x.shape[:-1])
        x = self.emit(shape.Reshape, x=self.emit(unary.Tanh, x=x), shape=(1, rows, c))
        groups = self.rng.choice([g for g in (1, 2, c) if c % g == 0])
        w = self.array(DType.F32, (3, c // groups, groups * 2))
        self.tame(self.emit(Conv, x=x, w=w, strides=(1,), dilations=(1,), pads_low=(1,),
                            pads_high=(1,), groups=groups))  # fmt: skip

    def attention(self) -> None:
        x = self.channels(2, 3, even=True, f64=True)
        if x is None:
            return
        x = self.emit(unary.Tanh, x=x)
        sizes = x.shape if x.rank == 3 else (1, *x.shape)
        split = (*sizes[:2], 2, sizes[2] // 2)
        heads = self.emit(shape.Reshape, x=x, shape=split)
        other = self.emit(unary.Sin, x=heads)
        self.emit(nn.Attention, q=heads, k=other, v=heads, scale=0.7, q_axes="bqhd",
                  k_axes="bkgd", v_axes="bkge", out_axes=self.rng.choice(("bqhe", "bhqe", "hbeq")),
                  causal=self.rng.random() < 0.4, causal_end=self.rng.random() < 0.5,
                  masked_zero=True)  # fmt: skip

    def nested(self, steps: int, first: tuple[Value, ...]) -> list[Value]:
        """Values of a region that starts with `first` and knows the values outside."""
        outer, self.depth = list(self.values), self.depth + 1
        self.values += first
        for _ in range(steps):
            self.step()
        made, self.values = self.values[len(outer) :], outer
        self.depth -= 1
        return made

    def branch(self) -> None:
        flag = self.pick(lambda v: v.dtype == DType.BOOL and v.shape == ())
        value = self.floats()
        if value is None or flag is None or self.depth:
            return
        kind = value.type

        def arm() -> Value:
            made = [v for v in self.nested(3, (value,)) if v.type == kind]
            return made[-1]

        regions = [self.d.region((), arm) for _ in range(2)]
        self.emit(If, condition=flag, then_body=regions[0], else_body=regions[1])

    def loop(self) -> None:
        value = self.pick(lambda v: v.dtype == DType.F32)
        if value is None or self.depth:
            return
        value = self.emit(unary.Tanh, x=value)
        kind = value.type

        def body(i: Value, state: Value) -> tuple[Value, ...]:
            made = self.nested(3, (state,))
            new = self.d(unary.Tanh, x=[v for v in made if v.type == kind][-1])
            piece = made[self.rng.randrange(len(made))]
            return self.d.constant(np.array(True)), new, piece

        count = self.rng.choice((0, 2, sym("m")))
        region = self.d.region((TensorType(DType.I64, ()), kind), body)
        final, stack = self.d(
            Loop, carried=(value,), trips=count, length=count, stack_axes=(0,),
            stack_reverse=(self.rng.random() < 0.4,), body=region)  # fmt: skip
        self.keep(final, False)
        self.keep(stack, False)

    def select(self) -> None:
        flags = self.pick(lambda v: v.dtype == DType.BOOL and v in self.exact and v.rank == 1)
        if flags is None or self.depth or any(s.source[0] == "data" for s in
                                              self.d.symbols.values()):  # fmt: skip
            return
        size = flags.shape[0]
        count = self.d.data_symbol("count", size)
        found = self.d(NonZero, x=flags, count=count)
        ids = self.emit(shape.Reshape, x=found, shape=(count,), exact=True)
        value = self.pick(lambda v: v.rank > 0 and v.shape[0] == size)
        if value is not None:
            self.emit(shape.Gather, x=value, indices=ids, axis=0, exact=self.same(value))

    def leaf(self) -> None:
        kind = self.rng.choice(("fill", "iota", "dim"))
        n = sym(self.rng.choice("nm"))
        if kind == "fill":
            number = tensor(self.rng.choice(("f32", "f64")), n, 4)
            self.emit(leaf.Fill, value=self.rng.uniform(-2, 2), type=number, exact=True)
        elif kind == "iota":
            self.emit(leaf.Iota, length=n, dtype=DType.I64, exact=True)
        else:
            self.emit(leaf.DimValue, size=n * 3 + 1, exact=True)

    def step(self) -> None:
        """One random operation, or none if nothing fits the one that was drawn."""
        kinds = (
            self.elementwise, self.elementwise, self.arithmetic, self.arithmetic, self.division,
            self.decide, self.convert, self.reduction, self.reduction, self.rows, self.scan,
            self.movement, self.movement, self.movement, self.join, self.lookup, self.product,
            self.product, self.convolution, self.attention, self.branch, self.loop, self.select,
            self.leaf,
        )  # fmt: skip
        self.rng.choice(kinds)()
        if self.values and elements(self.values[-1]) > 20000:
            self.exact.discard(self.values.pop())


def random_graph(seed: int, steps: int = 14) -> Graph:
    """The graph of a seed: 3 to 5 inputs, about `steps` operations, 1 to 4 outputs."""
    maker = Maker(random.Random(seed))
    d, rng = maker.d, maker.rng
    sizes = [("n", 8), ("m", "n"), ("n", "m", 4), (3, 6), ("m",), (2, "n", 5), (), (4, 4)]
    d.input("first", "f32", "n", "m")
    for i in range(rng.randint(2, 4)):
        dtype = rng.choice(("f32", "f32", "f64", "f16", "i64", "i32", "bool", "u8"))
        d.input(f"x{i}", dtype, *rng.choice(sizes))
    if rng.random() < 0.6:
        d.input("ids", "i64", rng.choice((3, "m")))
    d.input("flag", "bool")
    for value in d.inputs:
        maker.keep(value, True)
    for _ in range(steps):
        maker.step()
    made = [v for v in maker.values if v not in d.inputs]
    wanted = [made[-1]] if made else [maker.values[0]]
    used = {v for op in d.ops for v in op.operands}
    loose = [v for v in made if v not in used]
    wanted += rng.sample(loose, min(len(loose), 3))
    if rng.random() < 0.2:
        wanted.append(rng.choice(maker.values))
    return d.graph(*dict.fromkeys(wanted))
