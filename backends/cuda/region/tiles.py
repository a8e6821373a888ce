"""Transposes: what a load has side by side along another axis than the stores goes through shared
memory, a square tile of both axes a block."""

from __future__ import annotations

from tilewright.backends.cuda.kernel import Entry
from tilewright.backends.cuda.region.code import TYPES, Code, dim_text
from tilewright.backends.cuda.region.function import decode, formula, function, waits
from tilewright.backends.cuda.region.pointwise import write
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
    """Source and entries of a transposing region. Threads move words of 4 bytes."""
    spec, lane, block = plan.spec, plan.lane, plan.block
    loads = turned(plan)
    sizes = [ITEM_BYTES[spec.inputs[n.input]] for n in spec.body if isinstance(n, Load)]
    largest = max([*sizes, *(ITEM_BYTES[s.dtype] for s in spec.outputs)])
    wide = max(1, 4 // largest)
    edge = 32 * wide
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
    x = code.let("int", f"threadIdx.x % 32 * {wide}")
    y = code.let("int", "threadIdx.x / 32")
    scope = Scope(frame, None, index)
    tiles: dict[int, str] = {}
    for node in loads:
        load = spec.body[node]
        assert isinstance(load, Load)
        tiles[node] = code.name("tile")
        # One more column: the words that a warp reads along the other axis are in 32 banks.
        kind = TYPES[frame.kind(spec.inputs[load.input])]
        code.line(f"__shared__ {kind} {tiles[node]}[{edge}][{edge + 1}];")
    steps = f"for (int j = 0; j < {edge}; j += {THREADS // 32})"
    width, height = dim_text(spec.domain[lane]), dim_text(spec.domain[block])
    whole = [f"{left} + {edge} <= {width}", f"{top} + {edge} <= {height}"]
    for node in tiles if wide > 1 else ():
        load = spec.body[node]
        assert isinstance(load, Load)
        size = ITEM_BYTES[spec.inputs[load.input]]
        start = scope.inner({lane: left, block: top}).address(load)
        step = dim_text(load.strides[lane])
        whole.append(f"((u64)(in{load.input} + ({start})) | (u64)({step} * {size})) % 4 == 0")
    for number, store in enumerate(spec.outputs) if wide > 1 else ():
        size = ITEM_BYTES[store.dtype] * wide  # of a word
        start = scope.inner({lane: left, block: top}).offset_of(store.strides, store.offset)
        step = dim_text(store.strides[block])
        bytes_ = f"({step} * {ITEM_BYTES[store.dtype]})"
        whole.append(f"((u64)(out{number} + ({start})) | (u64){bytes_}) % {size} == 0")
    whole = [code.let("bool", " && ".join(whole), "v")]

    def fill(full: bool) -> None:
        """Bring the tiles; those that are full in words, all on their way at once."""
        first = scope.inner({lane: f"({left} + {y})", block: f"({top} + {x})"})
        start: dict[int, str] = {}
        for node in tiles:
            load = spec.body[node]
            assert isinstance(load, Load)
            kind = TYPES[frame.kind(spec.inputs[load.input])]
            place = f"in{load.input} + ({first.address(load)})"
            start[node] = code.let(f"{kind} *", place, "from")
        code.line("#pragma unroll")
        with code.block(steps):
            for node, tile in tiles.items():
                load = spec.body[node]
                assert isinstance(load, Load)
                kind = TYPES[frame.kind(spec.inputs[load.input])]
                place = f"{start[node]} + j * {dim_text(load.strides[lane])}"
                to = f"{tile}[{y} + j][{x} + k]"
                each = f"for (int k = 0; k < {wide}; k++)"
                if full:
                    word = code.name("x")
                    code.line(f"alignas(8) {kind} {word}[{wide}];")
                    code.line(f"tw_load_word({word}, {place});")
                    code.line("#pragma unroll")
                    code.line(f"{each} {to} = {word}[k];")
                else:
                    code.line("#pragma unroll")
                    inside = f"{left} + {y} + j < {width} && {top} + {x} + k < {height}"
                    code.line(f"{each} if ({inside}) {to} = ({place})[k];")

    def drain(full: bool) -> None:
        """Compute and write; full tiles in words."""
        raw = {node: f"{tile}[{x} + k][{y} + j]" for node, tile in tiles.items()}
        column = code.let("i64", f"{left} + {x}")
        start: dict[int, str] = {}
        if full:
            first = scope.inner({lane: column, block: f"({top} + {y})"})
            for number, store in enumerate(spec.outputs):
                kind = TYPES[frame.kind(store.dtype)]
                place = f"out{number} + ({first.offset_of(store.strides, store.offset)})"
                start[number] = code.name("to")
                code.line(f"{kind} *const {start[number]} = {place};")
        code.line("#pragma unroll")
        with code.block(steps):
            row = code.let("i64", f"{top} + {y} + j")
            here = scope.inner({block: row})
            here.raw = raw
            if full:
                here.hoist([s.value for s in spec.outputs])
                arrays = []
                for store in spec.outputs:
                    arrays.append(code.name("y"))
                    kind = TYPES[frame.kind(store.dtype)]
                    code.line(f"alignas(8) {kind} {arrays[-1]}[{wide}];")
                code.line("#pragma unroll")
                with code.block(f"for (int k = 0; k < {wide}; k++)"):
                    inside = here.inner({lane: f"({column} + k)"})
                    for store, array in zip(spec.outputs, arrays, strict=True):
                        code.line(f"{array}[k] = {inside.stored(store)};")
                for number, store in enumerate(spec.outputs):
                    place = f"{start[number]} + j * {dim_text(store.strides[block])}"
                    code.line(f"tw_store_word({place}, {arrays[number]});")
                return
            count = f"(int)tw_min({wide}, {width} - {column})"
            count = code.let("int", count)
            with code.block(f"if ({row} < {height} && {count} > 0)"):
                write(here, list(range(len(spec.outputs))), wide, count, column)

    for part in (fill, drain):
        with code.block(f"if ({whole[0]})"):
            part(True)
        with code.block("else"):
            part(False)
        if part is fill:
            code.line("__syncthreads();")
            scope.hoist([s.value for s in spec.outputs])
    source = function(spec, target, name, THREADS, code)
    grid = formula(blocks)
    return source, (Entry((grid, "1", "1"), (THREADS, 1, 1), overlaps=waits(target)),)
