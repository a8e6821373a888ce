"""One variant of a model: a graph and a target to a shared object."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from llvmlite import ir

from tilewright.backends.llvm import codegen
from tilewright.backends.llvm.body import BodyEmitter, Layout
from tilewright.backends.llvm.elf import link
from tilewright.backends.llvm.emitters import EntryPoints, kernel_name
from tilewright.backends.llvm.eviction import evict
from tilewright.backends.llvm.grains import coarsen
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.state import Lowering, PackedWeight
from tilewright.backends.llvm.merging import Memory, merge
from tilewright.backends.llvm.pool import emit_pool
from tilewright.backends.llvm.pool_chain import emit_chain
from tilewright.backends.llvm.program import Launch, Program, launches
from tilewright.backends.llvm.schedule import (
    Access,
    Arrangement,
    Lifetime,
    Placement,
    Planner,
    schedule,
)
from tilewright.backends.llvm.session import EXPORTS, ModelDescription, emit_session
from tilewright.backends.profile import profile_for
from tilewright.backends.target import Target
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.dims import Dim, greatest

ALIGN = 64


@dataclass(frozen=True)
class BufferRow:
    """A line of the memory map: an arena buffer, its life in steps and its place."""

    name: str
    first: int
    end: int
    bytes: Dim
    offset: Dim


@dataclass
class Lowered:
    """A graph lowered and placed, before code generation.

    accesses: what every step touches; its numbers below the length of `memory` are rows of it.
    slice: bits that are read of sliced codes, 0 for a model without.
    """

    target: Target
    graph: Graph
    state: Lowering
    layout: Layout
    memory: list[BufferRow]
    accesses: tuple[Access, ...]
    slice: int = 0

    @property
    def name(self) -> str:
        """Of the variant: its target, and its slice if there is one."""
        return f"{self.target.name}.slice{self.slice}" if self.slice else self.target.name

    @property
    def rows(self) -> list[Lifetime]:
        """The memory map as a planner takes it."""
        return [Lifetime(r.name, r.first, r.end, r.bytes) for r in self.memory]

    @property
    def launches(self) -> list[Launch]:
        return list(launches(self.state.program.steps))

    @property
    def weights(self) -> list[PackedWeight]:
        return [weight for _, weight in self.state.weights.values()]

    @property
    def specs(self) -> list[Hashable]:
        """Every distinct kernel once, in order of first use."""
        return list(dict.fromkeys(launch.spec for launch in self.launches))


def weight_offsets(weights: list[PackedWeight]) -> tuple[int, ...]:
    """Byte offsets of consecutive constants, each aligned to a cache line."""
    out, at = [], 0
    for weight in weights:
        out.append(at)
        at += -(-weight.bytes // ALIGN) * ALIGN
    return tuple(out)


def share_weights(variants: Sequence[Lowered]) -> list[PackedWeight]:
    """The weights of all variants, equal ones once; the variants' layouts then point into them."""
    union: dict[Hashable, PackedWeight] = {}
    for variant in variants:
        for key, (_, weight) in variant.state.weights.items():
            union.setdefault(key, weight)
    offsets = dict(zip(union, weight_offsets(list(union.values())), strict=True))
    for variant in variants:
        placed = tuple(offsets[key] for key in variant.state.weights)
        variant.layout = replace(variant.layout, weights=placed)
    return list(union.values())


def prepare(
    graph: Graph,
    target: Target,
    planner: Planner,
    max_error: float | None = None,
    how: Selecting | None = None,
) -> Lowered:
    """Lower `graph` for `target`; `planner` decides on the order of steps and places buffers.

    how: to choose among kernels; without it each operation takes the one predicted fastest.
    """
    if how is not None:
        how = replace(how, arena=lambda program: _arrange(program, planner, None)[1].arena)
    state = lower(graph, target, max_error, how)
    constants = sum(weight.bytes for _, weight in state.weights.values())
    found, placed = _arrange(state.program, planner, constants)
    state.program = found.program
    if not target.gpu:  # shares of threads and parallel regions are of CPUs
        worked = coarsen(state.program.steps, target, profile_for(target))
        state.program.steps = merge(worked, Memory(found.row_of, found.rows, placed.offsets))
    scratch = greatest((launch.scratch for launch in launches(state.program.steps)), graph.bounds)
    layout = Layout(
        buffers=tuple(placed.offsets[row] for row in found.row_of),
        arena=placed.arena,
        scratch=scratch,
        weights=weight_offsets([w for _, w in state.weights.values()]),
    )
    memory = [
        BufferRow(r.name, r.lower, r.upper, r.bytes, o)
        for r, o in zip(found.rows, placed.offsets, strict=True)
    ]
    return Lowered(target, graph, state, layout, memory, found.accesses)


def _arrange(
    program: Program, planner: Planner, constants: int | None
) -> tuple[Arrangement, Placement]:
    """The steps in order and the places of buffers beside `constants` bytes of weights.

    Before these are known, nothing is refused for the sum.
    """
    found, fixed = schedule(program, planner), None
    visits = planner.visits(found.accesses, found.rows)
    if visits is not None:
        evicted = evict(found, visits)
        found, fixed = evicted.arrangement, evicted.offsets
    return found, planner.place(found.accesses, found.rows, constants, fixed)


def entry_points(lowered: Lowered) -> EntryPoints:
    """The module with the session ABI, the pool and the model's body, as LLVM IR text."""
    target, graph, program = lowered.target, lowered.graph, lowered.state.program
    module = ir.Module("model")
    module.triple = target.triple
    pool = emit_pool(module)
    names = {spec: kernel_name(spec, target) for spec in lowered.specs}
    chain = emit_chain(module, pool)
    body = BodyEmitter(module, target, graph, program, lowered.layout, names, pool, chain)
    body.emit()
    emit_session(
        module,
        ModelDescription(
            input_ranks=tuple(v.rank for v in graph.inputs),
            output_ranks=tuple(v.rank for v in graph.outputs),
            dims=len(body.slots),
            launches=len(lowered.launches),
            features=tuple(f for f in target.all_features if not f.startswith("-")),
            errors=body.errors.table,
        ),
        pool,
    )
    return EntryPoints(str(module))


def build(
    lowered: Lowered,
    *,
    jobs: int | None = None,
    progress: Callable[[str], None] | None = None,
    known: codegen.Known | None = None,
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The shared object of a lowered graph as an entry of the artifact, and the code generation
    tier of every kernel.

    known: kernels of earlier builds, which are not compiled again; grows by those of this one.
    """
    specs = [*lowered.specs, entry_points(lowered)]
    made = codegen.compile_all(specs, lowered.target, jobs=jobs, progress=progress, known=known)
    image = link([m.object for m in made], EXPORTS, f"tilewright.{lowered.target.name}.so")
    return {f"model.{lowered.name}.so": image}, {m.name: m.tier for m in made}
