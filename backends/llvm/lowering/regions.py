"""Fused regions, elementwise operations, reductions and copies as region kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tilewright.backends.llvm.formats import F32_FORMAT
from tilewright.backends.llvm.lowering import fallback
from tilewright.backends.llvm.lowering.elementwise_names import NAMES
from tilewright.backends.llvm.lowering.handing import NARROW, hand_on
from tilewright.backends.llvm.lowering.lookups import look_up
from tilewright.backends.llvm.lowering.region_nodes import Nodes, Unsuitable, identity
from tilewright.backends.llvm.lowering.region_rows import RowNodes
from tilewright.backends.llvm.lowering.rules import lowers
from tilewright.backends.llvm.lowering.state import Lowering, formula
from tilewright.backends.llvm.lowering.unmade import leave, offer
from tilewright.backends.llvm.lowering.view import View, element_bytes
from tilewright.backends.llvm.region import dims as region_dims
from tilewright.backends.llvm.region.kernel import grain, scratch_bytes, units
from tilewright.backends.llvm.region.spec import DimValue, RegionSpec, Store
from tilewright.compiler.ir.core import Op, Value
from tilewright.compiler.ir.dims import Dim, dmin, product
from tilewright.compiler.ir.ops import control, leaf, nn, reduce, shape
from tilewright.compiler.ir.types import DType

ROW_OPS = (nn.Softmax, nn.LayerNorm, nn.RmsNorm, reduce.Reduce)


@lowers(control.Fused)
def fused(low: Lowering, op: control.Fused) -> None:
    """One kernel; where the body does not fit one region, a kernel for every operation of it."""
    if op in low.normalized or leave(low, op):
        return
    bound = dict(zip(op.body.params, op.inputs, strict=True))
    pairs = list(zip(op.body.results, op.results, strict=True))
    try:
        launch_region(low, op)
        offer(low, op)
        return
    except Unsuitable as reason:
        low.notes.append((op.source, f"not one kernel: {reason}"))
    for value in bound.values():
        if value.op in low.inlined and value not in low.views:
            _alone(low, value.op)
    low.views |= {param: low.view(value) for param, value in bound.items()}
    inner = {v for o in op.body.ops for v in o.results}
    for made, value in pairs:
        if made in inner and made not in low.same:
            low.stand_in(made, value)
    from tilewright.backends.llvm.lowering.lower import lower_ops

    lower_ops(low, op.body.ops)
    for made, value in pairs:
        if value not in low.views:
            low.alias(value, low.view(made))


@lowers(*NAMES, *ROW_OPS, nn.Rope, shape.Gather, leaf.Iota, leaf.Fill, leaf.DimValue)
def single(low: Lowering, op: Op) -> None:
    """An operation on its own, as a region if it fits, else as a loop nest."""
    if isinstance(op, shape.Gather) and look_up(low, op):
        return
    if op not in low.inlined and not leave(low, op):
        _alone(low, op)


def _alone(low: Lowering, op: Op) -> None:
    try:
        launch_region(low, op)
    except Unsuitable as reason:
        low.notes.append((op.source, f"{op.opname} by the general loop nest: {reason}"))
        fallback.lower_plain(low, op)
    else:
        offer(low, op)


def launch_region(low: Lowering, op: Op) -> None:
    """One region kernel for an operation or a fused body; raises `Unsuitable`."""
    if isinstance(op, control.Fused):
        bound = dict(zip(op.body.params, op.inputs, strict=True))
        _launch(low, op, op.body.ops, list(zip(op.body.results, op.results, strict=True)), bound)
    else:
        _launch(low, op, (op,), [(op.results[0], op.results[0])], {})


def _domain(ops: Sequence[Op], results: Sequence[Value]) -> tuple[tuple[Dim, ...], tuple[int, ...]]:
    """The loop domain of a body and its reduced axes."""
    found: set[tuple[tuple[Dim, ...], tuple[int, ...]]] = set()
    for op in ops:
        if isinstance(op, reduce.Reduce):
            found.add((op.x.shape, tuple(sorted(op.axes))))
        elif isinstance(op, nn.Softmax):
            found.add((op.x.shape, (op.axis,)))
        elif isinstance(op, nn.LayerNorm | nn.RmsNorm):
            found.add((op.x.shape, tuple(range(op.axis, op.x.rank))))
    if not found:
        found = {(value.shape, ()) for value in results}
    if len(found) != 1:
        raise Unsuitable("several iteration domains")
    return found.pop()


def _launch(
    low: Lowering,
    op: Op,
    ops: Sequence[Op],
    pairs: Sequence[tuple[Value, Value]],
    bound: Mapping[Value, Value],
) -> None:
    """One region kernel that computes `made` into the place of `value` for all pairs."""
    domain, reduced = _domain(ops, [made for made, _ in pairs])
    nodes = RowNodes(low, bound, domain, reduced)
    same = identity(len(domain))
    kept = [a for a in range(len(domain)) if a not in reduced]
    plans: list[tuple[int, Value, tuple[int, ...]]] = []
    for made, value in pairs:
        if made.shape == domain and not (reduced and made.op in ops and _is_row(made)):
            axes = tuple(range(len(domain)))
        elif (made.rank == len(domain) and all(made.shape[a] == 1 for a in reduced)) or tuple(
            made.shape
        ) == tuple(domain[a] for a in kept):
            axes = tuple(kept)
        else:
            raise Unsuitable(f"a result of shape {made.shape} over the domain {domain}")
        if str(value.dtype) not in NAMED:
            raise Unsuitable(f"regions have no {value.dtype}")
        access = same if made.rank == len(domain) else tuple(same[a] for a in kept)
        if made.rank == len(domain) and len(axes) < len(domain):
            zero = tuple(0 for _ in domain)
            access = tuple(i if a in axes else type(i)(zero) for a, i in enumerate(same))
        plans.append((nodes.value(made, access), value, axes))
    outputs: list[Store] = []
    targets: list[View] = []
    made_here: list[tuple[Value, list[View]]] = []
    for node, value, axes in plans:
        formats = low.handing.of(value)
        target = low.result(value, low.handing.narrow(value))
        strides: list[Dim] = [0] * len(domain)
        own = target.strides
        if len(own) != len(axes):
            own = tuple(own[a] for a in axes)
        for axis, stride in zip(axes, own, strict=True):
            strides[axis] = stride
        places = [target]
        handed = target.place.kind == "arena" and low.depth == 0
        if formats[0] == F32_FORMAT and len(formats) > 1 and handed:
            places.append(low.buffer(NARROW[formats[1]], target.shape, value.name or "t"))
        for place in places:
            other = place.dtype != value.dtype
            stored = nodes.op("cast", (node,), str(place.dtype)) if other else node
            steps = tuple(nodes.params(s) for s in strides)
            outputs.append(Store(stored, str(place.dtype), steps))
            targets.append(place)
        made_here.append((value, places))
    _emit(low, op, nodes, outputs, targets)
    for value, places in made_here:
        hand_on(low, value, places[0], op.source, *places[1:])


def _is_row(made: Value) -> bool:
    return isinstance(made.op, reduce.Reduce) and made.op.x.shape != made.shape


NAMED = {str(d) for d in DType if d.bits >= 8} - {"f8e4m3fnuz", "f8e5m2fnuz", "f8e8m0", "f8e4m3fn"}
"""Element types that regions compute with."""


def _emit(
    low: Lowering, op: Op | None, nodes: Nodes, outputs: list[Store], targets: list[View]
) -> None:
    spec = RegionSpec(
        domain=tuple(nodes.params(d) for d in nodes.domain),
        inputs=tuple(nodes.inputs),
        body=tuple(nodes.body),
        outputs=tuple(outputs),
        reduced=nodes.reduced,
        params=0,
    )
    dims = nodes.params.dims
    spec = RegionSpec(spec.domain, spec.inputs, spec.body, spec.outputs, spec.reduced, len(dims))

    def size(dim: region_dims.Dim) -> Dim:
        return formula(region_dims.text(dim), dims)

    points = product(nodes.domain)
    moved = sum((t.bytes for t in targets), 0)
    for (load, view), *_ in nodes.loads.values():
        gathered = points * element_bytes(view.dtype)
        moved = moved + (dmin(view.bytes, gathered) if load.gathers else view.bytes)
    low.launch(
        op,
        spec,
        nodes.places,
        [t.at for t in targets],
        dims,
        size(units(spec, low.target)),
        scratch=size(scratch_bytes(spec, low.target)),
        grain=size(grain(spec, low.target)),
        label=_label(op),
        flops=points * max(1, len(nodes.body) - len(nodes.inputs)),
        traffic=moved,
        error=nodes.error,
        inplace=_inplace(nodes, outputs, targets),
    )


def _label(op: Op | None) -> str:
    return "copy" if op is None else op.opname


def _inplace(nodes: Nodes, outputs: list[Store], targets: list[View]) -> list[tuple[int, int]]:
    """Inputs of a pointwise region that are read exactly where the only result is written."""
    if nodes.reduced or len(outputs) != 1:
        return []
    store, target = outputs[0], targets[0]
    found = []
    for index, loads in nodes.loads.items():
        exact = all(
            load.strides == store.strides and load.offset == 0 and not load.gathers and view.whole
            for load, view in loads
        )
        size = element_bytes(loads[0][1].dtype)
        if exact and size == element_bytes(target.dtype):
            found.append((0, index))
    return found


def launch_copy(low: Lowering, source: View, target: View) -> None:
    """Copy the elements of a strided view to another of the same shape."""
    raw = DType[f"U{8 * element_bytes(source.dtype)}"]
    seen = View(source.place, raw, source.shape, source.strides, source.offset)
    nodes = Nodes(low, {}, source.shape, ())
    node = nodes.load(seen, identity(len(source.shape)))
    strides = tuple(nodes.params(s) for s in target.strides)
    store = Store(node, str(raw), strides)
    _emit(low, None, nodes, [store], [target])


def launch_cast(low: Lowering, source: View, target: View) -> None:
    """Convert the elements of a view to those of a dense one of the same shape."""
    nodes = Nodes(low, {}, source.shape, ())
    node = nodes.load(source, identity(len(source.shape)))
    cast = nodes.op("cast", (node,), str(target.dtype))
    strides = tuple(nodes.params(s) for s in target.strides)
    _emit(low, None, nodes, [Store(cast, str(target.dtype), strides)], [target])


def launch_dim(low: Lowering, dim: Dim, target: View) -> None:
    """Store a dimension as an i64 scalar."""
    nodes = Nodes(low, {}, target.shape, ())
    node = nodes.add(_dim_node(nodes, dim))
    rank = len(target.shape)
    _emit(low, None, nodes, [Store(node, "i64", (0,) * rank)], [target])


def _dim_node(nodes: Nodes, dim: Dim) -> DimValue:
    return DimValue(nodes.params(dim))
