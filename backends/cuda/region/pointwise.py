"""Regions without reductions: a thread computes a few neighbours along the innermost axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilewright.backends.cuda.kernel import Entry
from tilewright.backends.cuda.region.code import TYPES, Code, dim_text
from tilewright.backends.cuda.region.function import decode, formula, function, waits
from tilewright.backends.cuda.region.scope import Frame, Scope, contiguous
from tilewright.backends.llvm.emit.convert import ITEM_BYTES
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.dims import Dim
from tilewright.backends.llvm.region.schedule import Schedule
from tilewright.backends.llvm.region.spec import Load, Op, Piece, RegionSpec
from tilewright.backends.target import Target

THREADS = 256
APART = 4
"""Elements of a thread where rows are not aligned, `THREADS` apart."""

MAX_COPIES, MAX_MOVES = 9, 48
"""Most copies of the body made for pieces (padding two axes takes nine), and of one that computes
nothing."""

MAX_ARMS = 32
"""Most arms of pieces in an unrolled body that chooses them for single elements."""

MAX_WORK = 1200
"""Most additions that the unrolled body of a thread is worth."""


def width(plan: Schedule, reduced: bool = False) -> int:
    """Elements of a thread along the lane axis: 16 bytes of the narrowest type that lies side by
    side there, 32 of the widest."""
    spec, lane = plan.spec, plan.lane
    sizes = [
        ITEM_BYTES[spec.inputs[n.input]]
        for n in spec.body
        if isinstance(n, Load) and n.strides[lane] == 1
    ]
    stores = [ITEM_BYTES[s.dtype] for s in spec.outputs if s.strides[lane] == 1]
    if not (stores or (reduced and sizes)):
        return 1
    sizes += stores
    wide = max(1, min(16 // min(sizes), 32 // max(sizes)))
    cost = sum(plan.facts.cost[s.value] for s in spec.outputs)
    while wide > 1 and wide * cost > MAX_WORK:
        wide //= 2
    extent = spec.domain[lane]
    if isinstance(extent, int):
        while wide > 1 and (wide // 2 >= extent or (len(spec.domain) > 1 and extent % wide)):
            wide //= 2
    return wide


def piece_groups(
    spec: RegionSpec, lane: int, wide: int
) -> list[tuple[int, tuple[Dim, ...], list[int]]]:
    """(axis, starts, nodes) of the pieces whose arm is chosen for a thread's elements together."""
    groups: dict[tuple[int, tuple[Dim, ...]], list[int]] = {}
    for i, node in enumerate(spec.body):
        if isinstance(node, Piece) and (node.axis != lane or wide > 1):
            groups.setdefault((node.axis, node.starts), []).append(i)
    most = MAX_COPIES if any(isinstance(n, Op) for n in spec.body) else MAX_MOVES
    chosen, copies = [], 1
    for (axis, starts), nodes in groups.items():
        ways = len(starts) + 1 + (axis == lane)
        if copies * ways <= most:
            copies *= ways
            chosen.append((axis, starts, nodes))
    return chosen


def _unless_many_arms(spec: RegionSpec, lane: int, wide: int) -> int:
    """``wide``, or 1 where the body would have too many branches for single elements."""
    chosen = {i for _, _, nodes in piece_groups(spec, lane, wide) for i in nodes}
    arms = sum(
        len(n.args) for i, n in enumerate(spec.body) if isinstance(n, Piece) and i not in chosen
    )
    return wide if wide * arms <= MAX_ARMS else 1


def bring(scope: Scope, roots: list[int], wide: int, count: str, base: str, step: int = 1) -> None:
    """Load the elements of ``roots`` that lie side by side, ``wide`` of them in arrays."""
    frame = scope.frame
    first = scope.inner({frame.lane: base})
    for node in sorted(scope.reach(roots)):
        load = frame.spec.body[node]
        if not isinstance(load, Load) or not contiguous(frame, node):
            continue
        if node in scope.raw or scope.find(node):
            continue
        kind = TYPES[frame.kind(frame.spec.inputs[load.input])]
        array = frame.code.name("x")
        frame.code.line(f"alignas(16) {kind} {array}[{wide}];")
        frame.code.line(
            f"{_mover('load', step)}({array}, in{load.input} + ({first.address(load)}), {count});"
        )
        scope.raw[node] = f"{array}[k]"


def _mover(what: str, step: int) -> str:
    return f"tw_{what}" if step == 1 else f"tw_{what}_apart<{step}>"


def _guarded(scope: Scope, roots: list[int]) -> bool:
    """Whether evaluating ``roots`` for an element that does not exist could do harm."""
    body = scope.frame.spec.body
    return any(
        (isinstance(body[i], Load) and i not in scope.raw and scope.find(i) is None)
        or (isinstance(body[i], Piece) and i not in scope.arms)
        for i in scope.reach(roots)
    )


def write(
    scope: Scope,
    numbers: list[int],
    wide: int,
    count: str,
    base: str,
    others: Sequence[int] = (),
    visit: Callable[[Scope], None] | None = None,
    step: int = 1,
) -> None:
    """Write outputs ``numbers`` for ``wide`` elements from index ``base`` of the lane axis on,
    ``step`` apart, of which ``count`` exist; ``scope`` knows the other indices.

    ``visit`` sees every element that exists and may read the nodes ``others`` there.
    """
    frame, code = scope.frame, scope.frame.code
    lane, outputs = frame.lane, frame.spec.outputs
    roots = [outputs[n].value for n in numbers] + list(others)
    scope.hoist(roots)
    bring(scope, roots, wide, count, base, step)
    arrays: dict[int, str] = {}
    for n in numbers:
        if outputs[n].strides[lane] == 1 and wide > 1:
            arrays[n] = code.name("y")
            kind = TYPES[frame.kind(outputs[n].dtype)]
            code.line(f"alignas(16) {kind} {arrays[n]}[{wide}];")
    inside = scope.inner({lane: f"({base} + k)" if step == 1 else f"({base} + k * {step})"})
    single = len(arrays) < len(numbers) or visit is not None or _guarded(scope, roots)
    code.line("#pragma unroll")
    with code.block(
        f"for (int k = 0; k < {wide}; k++)"
        + (f" if (k < {count})" if single and count != str(wide) else "")
    ):
        if visit is not None:
            visit(inside)
        for n in numbers:
            if n in arrays:
                code.line(f"{arrays[n]}[k] = {inside.stored(outputs[n])};")
            else:
                inside.store(n, outputs[n])
    first = scope.inner({lane: base})
    for n, array in arrays.items():
        place = first.offset_of(outputs[n].strides, outputs[n].offset)
        code.line(f"{_mover('store', step)}(out{n} + ({place}), {array}, {count});")


def choose(
    scope: Scope,
    groups: list[tuple[int, tuple[Dim, ...], list[int]]],
    base: str,
    count: str,
    body: Callable[[Scope], None],
) -> None:
    """``body`` under the branches that fix the arms of ``groups``."""
    if not groups:
        body(scope)
        return
    (axis, starts, nodes), rest = groups[0], groups[1:]
    code, lane = scope.frame.code, scope.frame.lane
    bounds = [dim_text(s) for s in starts]
    for k in range(len(starts) + 1):
        tests = []
        if axis == lane:
            tests += [f"{base} >= {bounds[k - 1]}"] if k else []
            tests += [f"{base} + {count} <= {bounds[k]}"] if k < len(starts) else []
        elif k < len(starts):
            tests = [f"{scope.index[axis]} < {bounds[k]}"]
        head = f"if ({' && '.join(tests)})" if tests else ""
        with code.block(" ".join(filter(None, ["else" if k else "", head])) or "if (true)"):
            inside = scope.inner()
            inside.arms.update(dict.fromkeys(nodes, k))
            choose(inside, rest, base, count, body)
    if axis == lane:  # the thread's elements lie on both sides of a start
        with code.block("else"):
            choose(scope.inner(), rest, base, count, body)


def emit_pointwise(plan: Schedule, target: Target, name: str) -> tuple[str, tuple[Entry, ...]]:
    """Source and entries of a region without reductions."""
    spec, lane = plan.spec, plan.lane
    wide = _unless_many_arms(spec, lane, width(plan))
    code = Code()
    frame = Frame(code, spec, plan.facts, lane)
    groups = dims.ceildiv(spec.domain[lane], wide)
    total = dims.product([*(spec.domain[a] for a in range(lane)), groups])
    numbers = list(range(len(spec.outputs)))
    extent = spec.domain[lane]
    if wide == 1 and isinstance(extent, int) and extent >= APART * THREADS // 2:
        return _apart(plan, target, name, code, frame)
    unit = code.let("i64", f"(i64)blockIdx.x * {THREADS} + threadIdx.x")
    code.line(f"if ({unit} >= {dim_text(total)}) return;")
    frame.pointers()
    if lane == 0:
        index, group = {}, unit
    else:
        each = code.let("i64", dim_text(groups))
        row = code.let("i64", f"tw_div({unit}, {each})")
        group = code.let("i64", f"{unit} - {row} * {each}")
        index = decode(code, spec, range(lane), row)
    base = code.let("i64", f"{group} * {wide}")
    count = str(wide)
    if not isinstance(extent, int) or extent % wide:
        count = code.let("int", f"(int)tw_min({wide}, {dim_text(extent)} - {base})")

    def body(scope: Scope) -> None:
        write(scope, numbers, wide, count, base)

    choose(Scope(frame, None, index), piece_groups(spec, lane, wide), base, count, body)
    return _finished(plan, target, name, code, dims.ceildiv(total, THREADS))


def _apart(
    plan: Schedule, target: Target, name: str, code: Code, frame: Frame
) -> tuple[str, tuple[Entry, ...]]:
    """Rows that are not aligned: a block takes a stretch of one, its threads single elements."""
    spec, lane = plan.spec, plan.lane
    extent = spec.domain[lane]
    stretches = dims.ceildiv(extent, APART * THREADS)
    frame.pointers()
    row = code.let("i64", f"tw_div(blockIdx.x, {dim_text(stretches)})")
    stretch = code.let("i64", f"tw_rem(blockIdx.x, {dim_text(stretches)})")
    index = decode(code, spec, range(lane), row)
    base = code.let("i64", f"{stretch} * {APART * THREADS} + threadIdx.x")
    rest = f"({dim_text(extent)} - {base} + {THREADS - 1}) / {THREADS}"
    count = code.let("int", f"{base} < {dim_text(extent)} ? (int)tw_min({APART}, {rest}) : 0")
    numbers = list(range(len(spec.outputs)))

    def body(scope: Scope) -> None:
        write(scope, numbers, APART, count, base, step=THREADS)

    choose(Scope(frame, None, index), piece_groups(spec, lane, 1), base, count, body)
    blocks = dims.product([*(spec.domain[a] for a in range(lane)), stretches])
    return _finished(plan, target, name, code, blocks)


def _finished(
    plan: Schedule, target: Target, name: str, code: Code, blocks: Dim
) -> tuple[str, tuple[Entry, ...]]:
    source = function(plan.spec, target, name, THREADS, code)
    entry = Entry((formula(blocks), "1", "1"), (THREADS, 1, 1), overlaps=waits(target))
    return source, (entry,)
