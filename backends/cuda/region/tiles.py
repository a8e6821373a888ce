"""Transposes: what a load has side by side along another axis than the stores goes through shared
memory, a square tile of both axes a block."""

from __future__ import annotations

from tilewright.backends.cuda.kernel import Entry
from tilewright.backends.cuda.region.code import TYPES, Code, dim_text
from tilewright.backends.cuda.region.function import decode, formula, function, waits
from tilewright.backends.cuda.region.scope import Frame, Scope
from tilewright.backends.llvm.emit.convert import ITEM_BYTES
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.schedule import Schedule
from tilewright.backends.llvm.region.spec import Load
from tilewright.backends.target import Target

THREADS = 256
SMALL = 8
"""Axes known to be shorter than this are not worth a tile."""

MOST = 5
"""Tiles that fit into the shared memory of a block."""


def turned(plan: Schedule) -> list[int]:
    """Loads that go through a tile."""
    return [
        i
        for i, n in enumerate(plan.spec.body)
        if isinstance(n, Load)
        and n.strides[plan.block] == 1
        and n.strides[plan.lane] not in (0, 1)
        and not n.gathers
    ]


def tiled(plan: Schedule) -> bool:
    """Whether a transposing region is worth tiles."""
    extents = [plan.spec.domain[a] for a in (plan.lane, plan.block)]
    large = all(not isinstance(e, int) or e >= SMALL for e in extents)
    return large and len(turned(plan)) <= MOST


def emit_tiles(plan: Schedule, target: Target, name: str) -> tuple[str, tuple[Entry, ...]]:
    """Source and entries of a transposing region."""
    spec, lane, block = plan.spec, plan.lane, plan.block
    loads = turned(plan)
    sizes = [ITEM_BYTES[spec.inputs[n.input]] for n in spec.body if isinstance(n, Load)]
    edge = 64 if max(sizes) <= 2 else 32
    rows = THREADS // edge
    code = Code()
    frame = Frame(code, spec, plan.facts, lane)
    frame.pointers()
    across = dims.ceildiv(spec.domain[lane], edge)
    down = dims.ceildiv(spec.domain[block], edge)
    outer = [a for a in range(len(spec.domain)) if a not in (lane, block)]
    blocks = dims.product([*(spec.domain[a] for a in outer), down, across])
    rest = code.let("i64", f"tw_div(blockIdx.x, {dim_text(across)})")
    left = code.let("i64", f"tw_rem(blockIdx.x, {dim_text(across)}) * {edge}")
    index: dict[int, str] = {}
    top = f"{rest} * {edge}"
    if outer:
        top = f"tw_rem({rest}, {dim_text(down)}) * {edge}"
        index = decode(code, spec, outer, code.let("i64", f"tw_div({rest}, {dim_text(down)})"))
    top = code.let("i64", top)
    x = code.let("int", f"threadIdx.x % {edge}")
    y = code.let("int", f"threadIdx.x / {edge}")
    width, height = dim_text(spec.domain[lane]), dim_text(spec.domain[block])
    scope = Scope(frame, None, index)
    tiles: dict[int, str] = {}
    for node in loads:
        load = spec.body[node]
        assert isinstance(load, Load)
        dtype = spec.inputs[load.input]
        pad = max(1, 4 // ITEM_BYTES[dtype])
        tiles[node] = code.name("tile")
        code.line(f"__shared__ {TYPES[frame.kind(dtype)]} {tiles[node]}[{edge}][{edge + pad}];")
    code.line("#pragma unroll")
    with code.block(f"for (int j = 0; j < {edge}; j += {rows})"):
        column, row = code.let("i64", f"{left} + {y} + j"), code.let("i64", f"{top} + {x}")
        with code.block(f"if ({column} < {width} && {row} < {height})"):
            here = scope.inner({lane: column, block: row})
            for node, tile in tiles.items():
                load = spec.body[node]
                assert isinstance(load, Load)
                code.line(f"{tile}[{y} + j][{x}] = in{load.input}[{here.address(load)}];")
    code.line("__syncthreads();")
    roots = [s.value for s in spec.outputs]
    scope.hoist(roots)
    code.line("#pragma unroll")
    with code.block(f"for (int j = 0; j < {edge}; j += {rows})"):
        column, row = code.let("i64", f"{left} + {x}"), code.let("i64", f"{top} + {y} + j")
        with code.block(f"if ({column} < {width} && {row} < {height})"):
            here = scope.inner({lane: column, block: row})
            here.raw = {node: f"{tile}[{x}][{y} + j]" for node, tile in tiles.items()}
            for number, store in enumerate(spec.outputs):
                here.store(number, store)
    source = function(spec, target, name, THREADS, code)
    grid = formula(blocks)
    return source, (Entry((grid, "1", "1"), (THREADS, 1, 1), overlaps=waits(target)),)
