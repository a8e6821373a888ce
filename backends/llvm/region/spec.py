"""What a fused region computes, independent of the compiler's IR.

A region is a loop nest over ``domain`` (outermost axis first). ``body`` is a tuple of nodes in SSA
order; a node names another by its position. A `Reduce` runs over the axes in ``reduced``; what
depends on its result is computed after it, in the same kernel. Strides and offsets are in elements.

Softmax over the last axis of [R, L]:

    RegionSpec(
        domain=(R, L), reduced=(1,), inputs=("f32",), params=2,
        body=(
            Load(0, (L, 1)),                       # 0
            Reduce("max", 0),                      # 1
            Op("sub", (0, 1), "f32"),              # 2
            Op("exp", (2,), "f32"),                # 3
            Reduce("sum", 3),                      # 4
            Op("div", (3, 4), "f32"),              # 5
        ),
        outputs=(Store(5, "f32", (L, 1)),),
    )

with R, L = ("p", 0), ("p", 1) or plain ints.
"""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.backends.llvm.emit.convert import DTYPES, is_float
from tilewright.backends.llvm.emit.elementwise import OPS
from tilewright.backends.llvm.region.dims import Dim

REDUCTIONS = ("sum", "prod", "max", "min", "any", "all")
ARG_REDUCTIONS = ("argmax", "argmin", "argmax_last", "argmin_last")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isposinf", "isneginf")


class RegionError(ValueError):
    """A spec that breaks a rule stated here: a mistake of the code that built it."""


@dataclass(frozen=True)
class Gather:
    """Adds ``index * stride`` to a load's address, with ``index`` the integer node ``value``.

    ``extent`` > the index >= 0 is checked when ``error`` is not 0: negative indices down to
    -extent count from the end, others make the kernel return ``error`` (and read element 0).
    ``error`` 0 promises that indices are in range and not negative.
    """

    value: int
    stride: Dim
    extent: Dim
    error: int = 0


@dataclass(frozen=True)
class Load:
    """Element ``offset + sum_a i_a * strides[a] (+ gathers)`` of input ``input``.

    One stride per domain axis; 0 broadcasts, negative reverses (with a suitable offset).
    """

    input: int
    strides: tuple[Dim, ...]
    offset: Dim = 0
    gathers: tuple[Gather, ...] = ()


@dataclass(frozen=True)
class Const:
    """The number ``value`` (for bool 0 or 1)."""

    value: float | int
    dtype: str


@dataclass(frozen=True)
class Iota:
    """The index along domain axis ``axis``, i64."""

    axis: int


@dataclass(frozen=True)
class DimValue:
    """The run-time value of a dimension expression, i64."""

    dim: Dim


@dataclass(frozen=True)
class Op:
    """Elementwise operator ``name`` (a key of `emit.elementwise.OPS`) giving ``dtype``."""

    name: str
    args: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Reduce:
    """``kind`` of node ``arg`` over the reduced axes: sum, prod, max, min (NaN wins), any, all.

    argmax and argmin (first, or with ``_last`` the last, position) give i64 and need exactly one
    reduced axis. The order of additions is fixed by the target's vector width and nothing else.
    """

    kind: str
    arg: int


@dataclass(frozen=True)
class Piece:
    """Node ``args[k]`` where ``starts[k-1] <= i_axis < starts[k]``: concat, pad, edge, wrap.

    ``len(starts) == len(args) - 1``, ascending. Nodes are evaluated only inside their range, so a
    load may be out of bounds elsewhere. All args have one dtype.
    """

    axis: int
    starts: tuple[Dim, ...]
    args: tuple[int, ...]


Node = Load | Const | Iota | DimValue | Op | Reduce | Piece


@dataclass(frozen=True)
class Store:
    """Writes node ``value`` as ``dtype`` (its own) to ``offset + sum_a i_a * strides[a]``.

    A value that does not depend on the reduced axes has stride 0 there and is written once per row.
    Distinct domain points must write distinct elements.
    """

    value: int
    dtype: str
    strides: tuple[Dim, ...]
    offset: Dim = 0


@dataclass(frozen=True)
class RegionSpec:
    """One fused kernel. Kernel arguments: the inputs in order, then one result per output.

    ``params`` is the number of dimension parameters p0.. that dims may use.
    """

    domain: tuple[Dim, ...]
    inputs: tuple[str, ...]
    body: tuple[Node, ...]
    outputs: tuple[Store, ...]
    reduced: tuple[int, ...] = ()
    params: int = 0

    def dtypes(self) -> tuple[str, ...]:
        """Element type of every node."""
        known: list[str] = []
        for node in self.body:
            match node:
                case Load():
                    known.append(self.inputs[node.input])
                case Const() | Op():
                    known.append(node.dtype)
                case Iota() | DimValue():
                    known.append("i64")
                case Reduce():
                    known.append("i64" if node.kind in ARG_REDUCTIONS else known[node.arg])
                case Piece():
                    known.append(known[node.args[0]])
        return tuple(known)


def operands(node: Node) -> tuple[int, ...]:
    """Nodes that ``node`` reads."""
    match node:
        case Load():
            return tuple(g.value for g in node.gathers)
        case Op() | Piece():
            return node.args
        case Reduce():
            return (node.arg,)
    return ()


def verify(spec: RegionSpec) -> None:
    """Check every rule above. Raises RegionError naming the node."""
    rank = len(spec.domain)
    if not spec.outputs:
        raise RegionError("a region needs at least one output")
    for axis in spec.reduced:
        if not 0 <= axis < rank:
            raise RegionError(f"reduced axis {axis} is outside the domain of rank {rank}")
    for number, dtype in enumerate(spec.inputs):
        if dtype not in DTYPES:
            raise RegionError(f"input {number} has unknown dtype {dtype!r}")
    for position, node in enumerate(spec.body):
        _verify_node(spec, position, node)
    dtypes = spec.dtypes()
    for number, store in enumerate(spec.outputs):
        if not 0 <= store.value < len(spec.body):
            raise RegionError(f"output {number} stores node {store.value}, which does not exist")
        if store.dtype != dtypes[store.value]:
            raise RegionError(
                f"output {number} has dtype {store.dtype}, node {store.value} has "
                f"{dtypes[store.value]}: insert a cast"
            )
        if len(store.strides) != rank:
            raise RegionError(f"output {number} has {len(store.strides)} strides, rank is {rank}")


def _verify_node(spec: RegionSpec, position: int, node: Node) -> None:
    where = f"node {position} ({type(node).__name__})"
    rank = len(spec.domain)
    for used in operands(node):
        if not 0 <= used < position:
            raise RegionError(f"{where} uses node {used}, which does not come before it")
    match node:
        case Load():
            if not 0 <= node.input < len(spec.inputs):
                raise RegionError(f"{where} reads input {node.input} of {len(spec.inputs)}")
            if len(node.strides) != rank:
                raise RegionError(f"{where} has {len(node.strides)} strides, rank is {rank}")
        case Op():
            if node.name not in OPS:
                raise RegionError(f"{where}: unknown operator {node.name!r}")
            if len(node.args) != OPS[node.name].arity:
                raise RegionError(f"{where}: {node.name} takes {OPS[node.name].arity} operands")
        case Reduce():
            if node.kind not in REDUCTIONS + ARG_REDUCTIONS:
                raise RegionError(f"{where}: unknown reduction {node.kind!r}")
            if not spec.reduced:
                raise RegionError(f"{where}: the region has no reduced axes")
            if node.kind in ARG_REDUCTIONS and len(spec.reduced) != 1:
                raise RegionError(f"{where}: {node.kind} needs exactly one reduced axis")
        case Piece():
            if len(node.starts) != len(node.args) - 1 or not 0 <= node.axis < rank:
                raise RegionError(f"{where}: {len(node.args)} pieces, {len(node.starts)} starts")
    dtype = RegionSpec.dtypes(spec)[position]
    if isinstance(node, Op) and node.name in COMPARISONS and dtype != "bool":
        raise RegionError(f"{where}: {node.name} gives bool, not {dtype}")
    if isinstance(node, Const) and node.dtype not in DTYPES:
        raise RegionError(f"{where}: unknown dtype {node.dtype!r}")
    if isinstance(node, Const) and isinstance(node.value, float) and not is_float(node.dtype):
        raise RegionError(f"{where}: {node.value!r} is not a {node.dtype}")
