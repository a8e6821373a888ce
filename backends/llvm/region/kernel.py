"""`emit_region`: a region spec to a kernel function, through MLIR or directly with llvmlite.

Work units, grain, scratch memory and cost estimates are `Dim` expressions over the spec's
parameters (`dims.text` renders them, `dims.evaluate` computes them). They depend on the vector
width, so every function takes it.
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.emit.convert import ITEM_BYTES
from tilewright.backends.llvm.emit.elementwise import OPS
from tilewright.backends.llvm.emit.emit import Emit
from tilewright.backends.llvm.emit.llvm_emit import KERNEL_TYPE, LlvmEmit
from tilewright.backends.llvm.emit.mlir_emit import MlirEmit
from tilewright.backends.llvm.mlir.lower import MlirUnavailable, bindings, to_llvm_ir
from tilewright.backends.llvm.region import dims, rows
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.pointwise import emit_blocked, emit_pointwise
from tilewright.backends.llvm.region.rows import emit_columns, emit_rows
from tilewright.backends.llvm.region.schedule import Schedule, plan
from tilewright.backends.llvm.region.spec import Load, Op, Reduce, RegionSpec
from tilewright.backends.target import Target

TIERS = ("mlir", "llvm")
GRAIN = 65536
"""Work of a chunk handed to a thread, in additions of single elements."""

_EMITTERS = {
    "pointwise": emit_pointwise,
    "blocked": emit_blocked,
    "rows": emit_rows,
    "columns": emit_columns,
}


@dataclass(frozen=True)
class Machine:
    """What a region needs to know of the target."""

    vector_bits: int
    fma: bool
    half: bool

    @staticmethod
    def of(target: Target | int) -> Machine:
        """From a target row, or from a vector width (then with FMA, without f16 conversions)."""
        if isinstance(target, int):
            return Machine(target, True, False)
        half = bool({"f16c", "fullfp16"} & set(target.all_features))
        return Machine(target.vector_bits, target.fma, half)


@dataclass(frozen=True)
class EmittedRegion:
    """Where a kernel went.

    ``tier`` is ``llvm`` (the body is in the module) or ``mlir`` (the module has a declaration, and
    ``text`` is LLVM IR to parse and link in). ``reason`` says why a wanted tier was not used.
    """

    function: ir.Function
    name: str
    tier: str
    reason: str
    text: str | None


def emit_region(
    module: ir.Module, spec: RegionSpec, target: Target | int, name: str, tier: str = "mlir"
) -> EmittedRegion:
    """Emit ``spec`` as kernel ``name``. Raises RegionError for a spec that breaks its rules.

    With ``tier="mlir"`` a region that MLIR cannot take, or a missing MLIR wheel, gives the llvm
    tier with the reason recorded.
    """
    if tier not in TIERS:
        raise ValueError(f"unknown tier {tier!r}; known tiers: {', '.join(TIERS)}")
    machine = Machine.of(target)
    scheduled = plan(spec, machine.vector_bits)
    reason = ""
    if tier == "mlir":
        try:
            text = _through_mlir(scheduled, machine, name)
        except MlirUnavailable as error:
            reason = str(error)
        else:
            return EmittedRegion(declare(module, name), name, "mlir", "", text)
    e = LlvmEmit(module, name, machine.fma, machine.half)
    build(e, scheduled)
    return EmittedRegion(e.finish(), name, "llvm", reason, None)


def _through_mlir(scheduled: Schedule, machine: Machine, name: str) -> str:
    """LLVM IR of the region; raises MlirUnavailable."""
    bindings()  # before any work is done
    e = MlirEmit(name, machine.fma, machine.half)
    build(e, scheduled)
    return to_llvm_ir(e.finish())


def build(e: Emit, scheduled: Schedule) -> None:
    """Emit the loops of a scheduled region into ``e``."""
    _EMITTERS[scheduled.kind](e, scheduled)


def declare(module: ir.Module, name: str) -> ir.Function:
    """The kernel's declaration in ``module``."""
    found = module.globals.get(name)
    return found if found is not None else ir.Function(module, KERNEL_TYPE, name)


def units(spec: RegionSpec, target: Target | int) -> Dim:
    """Number of independent work units: the kernel's ``end`` for a whole run."""
    scheduled = plan(spec, Machine.of(target).vector_bits)
    return dims.mul(scheduled.rows, scheduled.blocks)


def grain(spec: RegionSpec, target: Target | int) -> Dim:
    """Smallest sensible number of units for one thread to take at a time."""
    scheduled = plan(spec, Machine.of(target).vector_bits)
    spec = scheduled.spec
    each: Dim = dims.product([spec.domain[a] for a in spec.reduced])
    if scheduled.lane not in spec.reduced:
        width = {"pointwise": 1 << 13, "columns": 4 * max(scheduled.lanes, 1)}
        limit = width.get(scheduled.kind)
        extent = spec.domain[scheduled.lane]
        each = dims.mul(each, dims.minimum(extent, limit) if limit else extent)
    if scheduled.kind == "blocked":
        each = dims.mul(each, scheduled.lanes)
    cost = max(2, sum(_own_cost(n) for n in spec.body))
    return dims.maximum(1, dims.floordiv(GRAIN // cost, dims.maximum(1, each)))


def scratch_bytes(spec: RegionSpec, target: Target | int) -> Dim:
    """Bytes of scratch memory one thread needs, 0 if none."""
    return rows.scratch_bytes(plan(spec, Machine.of(target).vector_bits))


def flops_bytes(spec: RegionSpec) -> tuple[Dim, Dim]:
    """(elementwise operations, bytes read once and written) of one run."""
    points = dims.product(spec.domain)
    operations = sum(1 for n in spec.body if isinstance(n, Op | Reduce))
    moved: Dim = 0
    seen: set[Load] = set()
    for node in spec.body:
        if isinstance(node, Load) and node not in seen:
            seen.add(node)
            size = ITEM_BYTES[spec.inputs[node.input]]
            moved = dims.add(moved, dims.mul(_touched(spec, node.strides), size))
    for store in spec.outputs:
        size = ITEM_BYTES[store.dtype]
        moved = dims.add(moved, dims.mul(_touched(spec, store.strides), size))
    return dims.mul(points, operations), moved


def _touched(spec: RegionSpec, strides: tuple[Dim, ...]) -> Dim:
    return dims.product([d for d, s in zip(spec.domain, strides, strict=True) if s != 0])


def _own_cost(node: object) -> int:
    if isinstance(node, Op):
        return OPS[node.name].cost
    return 2 if isinstance(node, Load | Reduce) else 0
