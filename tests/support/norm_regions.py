"""Regions that normalize rows, as lowering writes them."""

from __future__ import annotations

from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.spec import Const, Load, Node, Op, Reduce, RegionSpec, Store

EPS = 1e-5


def norm_region(
    rows: Dim,
    width: int,
    given: str = "f16",
    made: str = "f16",
    kind: str = "layer",
    vectors: tuple[str, ...] = ("scale", "bias"),
    step: int = 0,
    eps: float = EPS,
) -> RegionSpec:
    """[rows, width] of ``given``, rows ``step`` further apart than they are long, to ``made``."""
    body: list[Node] = [Load(0, (width + step, 1))]

    def add(node: Node) -> int:
        body.append(node)
        return len(body) - 1

    def op(name: str, *args: int) -> int:
        return add(Op(name, args, "f32"))

    x = op("cast", 0) if given != "f32" else 0
    count = add(Const(float(width), "f32"))
    if kind == "layer":
        x = op("sub", x, op("div", add(Reduce("sum", x)), count))
    square = op("div", add(Reduce("sum", op("mul", x, x))), count)
    y = op("mul", x, op("rsqrt", op("add", square, add(Const(eps, "f32")))))
    for i, name in enumerate(vectors):
        y = op("mul" if name == "scale" else "add", y, add(Load(1 + i, (0, 1))))
    if made != "f32":
        y = add(Op("cast", (y,), made))
    return RegionSpec(
        domain=(rows, width),
        inputs=(given, *("f32" for _ in vectors)),
        body=tuple(body),
        outputs=(Store(y, made, (width, 1)),),
        reduced=(1,),
        params=0 if isinstance(rows, int) else 1,
    )
