"""The lowered program: kernel launches over places in memory, with sizes as dimension expressions.

`lower` makes it from a graph, the memory plan gives its arena buffers offsets, and `body` turns it
into the artifact's native entry points.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from tilewright.compiler.ir.dims import Dim


@dataclass(frozen=True)
class Place:
    """Bytes in memory: `offset` into an arena buffer, a weight, or a caller's input or output.

    kind: `arena` (index of a buffer of the program), `weight` (index of a packed constant),
    `input` or `output` (position in the signature).
    """

    kind: str
    index: int
    offset: Dim = 0


@dataclass(frozen=True)
class Launch:
    """One call of a kernel over `units` work units.

    `spec` determines the kernel's code; `operands` and `dims` are its arguments. A nonzero status
    stops the run with the text `error`. `counts` are data symbols that the kernel
    writes (extra i64 output arguments). `inplace` pairs positions (result, operand) that may share
    memory. `flops` and `bytes` describe its work for the profiler. Ranges that threads get begin at
    multiples of `grain` and have at least `least` units. `columns` begin <= i < end are those that
    it writes of a matrix whose other columns other launches write. `joint` says how it is joined
    to the launch before it in the same block of steps: `` not at all, `after` it in the same
    parallel region, or `beside` it, at the same time.
    """

    spec: Hashable
    operands: tuple[Place, ...]
    dims: tuple[Dim, ...]
    units: Dim
    grain: Dim
    scratch: Dim
    label: str
    source: str
    writes: tuple[int, ...]
    flops: Dim = 0
    bytes: Dim = 0
    error: str = "a kernel failed"
    counts: tuple[str, ...] = ()
    inplace: tuple[tuple[int, int], ...] = ()
    least: Dim = 1
    columns: tuple[int, int] | None = None
    joint: str = ""


@dataclass(frozen=True)
class Copy:
    """Copy `bytes` from `source` to `target` (which may be the same place)."""

    source: Place
    target: Place
    bytes: Dim


@dataclass(frozen=True)
class Branch:
    """Run `then` if the bool at `condition` is true, else `otherwise`."""

    condition: Place
    then: "tuple[Step, ...]"
    otherwise: "tuple[Step, ...]"


@dataclass(frozen=True)
class Repeat:
    """Run `body` while the bool at `condition` (if any) is true, at most `trips` times (if any).

    The symbol `counter` holds the iteration number inside the body and the number of iterations
    done afterwards; `length`, if set, is the data symbol that receives that number too.
    """

    counter: str
    trips: Dim | None
    condition: Place | None
    body: "tuple[Step, ...]"
    length: str | None = None


Step = Launch | Copy | Branch | Repeat


@dataclass(frozen=True)
class BufferInfo:
    """An arena buffer: its name in reports and its size in bytes."""

    name: str
    bytes: Dim


@dataclass
class Program:
    """Everything the body emitter needs; `steps` in execution order."""

    buffers: list[BufferInfo] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    counters: list[str] = field(default_factory=list)


def launches(steps: "list[Step] | tuple[Step, ...]") -> Iterator[Launch]:
    """All launches in order, nested ones included."""
    for step in steps:
        if isinstance(step, Launch):
            yield step
        elif isinstance(step, Branch):
            yield from launches(step.then)
            yield from launches(step.otherwise)
        elif isinstance(step, Repeat):
            yield from launches(step.body)


def chained(steps: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """The steps of one block: launches that are joined together, everything else alone."""
    found: list[Step] = []
    for step in steps:
        if found and not (isinstance(step, Launch) and step.joint):
            yield tuple(found)
            found = []
        found.append(step)
    if found:
        yield tuple(found)


def blocks(step: Step) -> tuple[tuple[Step, ...], ...]:
    """The blocks inside of a branch or a loop."""
    if isinstance(step, Branch):
        return (step.then, step.otherwise)
    return (step.body,) if isinstance(step, Repeat) else ()


def length(step: Step) -> int:
    """The numbers that a step takes when steps are counted, nested ones included."""
    if isinstance(step, Branch):
        return 2 + sum(map(length, (*step.then, *step.otherwise)))
    return 2 + sum(map(length, step.body)) if isinstance(step, Repeat) else 1


def lifetimes(program: Program) -> list[tuple[int, int]]:
    """For every arena buffer the half-open range of step numbers in which it must exist.

    Steps are numbered in program order, nested ones included. A buffer that a repeated body shares
    with what comes before or after it lives through the whole repetition.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    repeats: list[tuple[int, int]] = []
    clock = 0

    def touch(place: Place | None, at: int) -> None:
        if place is not None and place.kind == "arena":
            first.setdefault(place.index, at)
            last[place.index] = max(last.get(place.index, at), at)

    def visit(steps: "tuple[Step, ...] | list[Step]") -> None:
        nonlocal clock
        for step in steps:
            at = clock
            clock += 1
            if isinstance(step, Launch):
                for place in step.operands:
                    touch(place, at)
            elif isinstance(step, Copy):
                touch(step.source, at)
                touch(step.target, at)
            elif isinstance(step, Branch):
                touch(step.condition, at)
                inside_start = clock
                visit(step.then)
                visit(step.otherwise)
                _extend(first, last, inside_start, clock)
                clock += 1
            else:
                touch(step.condition, at)
                inside_start = clock
                visit(step.body)
                end = clock
                touch(step.condition, end)
                _extend(first, last, inside_start, end)
                repeats.append((inside_start, end))
                clock += 1

    visit(program.steps)
    for start, end in repeats:  # inner ones first
        for index, at in first.items():
            if start <= at < end <= last[index]:
                first[index] = start  # an earlier iteration may have written it
    return [(first.get(i, 0), last.get(i, -1) + 1) for i in range(len(program.buffers))]


def _extend(first: dict[int, int], last: dict[int, int], start: int, end: int) -> None:
    """Keep what comes from before a nested block alive until the block is left."""
    for index, at in last.items():
        if at >= start and first[index] < start:
            last[index] = max(at, end)
