"""Attention kernels for GPUs: which entry computes which launch, and its text."""

from __future__ import annotations

from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature, when
from tilewright.backends.kernels.gpu_attention import direct, finish, planes, warpgroups
from tilewright.backends.kernels.gpu_attention.fragments import Fragments
from tilewright.backends.kernels.gpu_attention.planes import padded
from tilewright.backends.kernels.gpu_attention.spec import GpuAttentionSpec
from tilewright.backends.kernels.gpu_attention.text import COMMON
from tilewright.backends.kernels.gpu_attention.warpgroups import Tile
from tilewright.backends.target import Target

PART = 256
"""Keys of a block at least, where several share those of a head."""


def share(fragments: Fragments, blocks: str = "units") -> str:
    """Blocks that a multiprocessor has at once, for each of ``blocks``."""
    return f"({fragments.resident} * sms // max(1, {blocks}))"


def parts(fragments: Fragments, blocks: str = "units") -> str:
    """Parts of the keys, a formula: as many as there is room for at once; one where what puts parts
    together would take longer than what it saves."""
    long = when(f"p3 - {2 * PART}")
    return f"max(1, min(ceildiv(p3, {PART}) * {long}, {share(fragments, blocks)}))"


def _clusters(fragments: Fragments) -> str:
    """1 where clusters of eight parts have room, and more parts would not pay; else 0."""
    room = f"min({share(fragments)} - 7, p3 - {PART})"
    enough = f"max(16 * {PART} + 1 - p3, 16 - {share(fragments)})"
    return when(f"min({room}, {enough})")


PLANES = {"tf32": 2, "tf32x3": 3}
"""Products -> bf16 values of an operand that make up for them on warp groups."""


def kernel(spec: GpuAttentionSpec, target: Target, name: str) -> CudaKernel:
    """Entries for many rows where the target has wgmma, of which one or none is taken, and for few
    rows, whose parts of the keys another one puts together."""
    fragments = Fragments.of(spec)
    hopper = target.name == "sm_90a"
    wait = "launch_wait();" if hopper else ""
    text = ['#include "hopper.cuh"\n'] if hopper else []
    text += [_constants(spec, fragments), COMMON, direct.DIRECT, finish.FINISH]
    entries: list[Entry] = []
    wide, tiles = _tiles(spec) if hopper else ("0", ())
    few, space, several = f"(1 - {wide})", "0", parts(fragments)

    def add(suffix: str, body: str, threads: int, maps: int = 0, blocks: int = 1) -> None:
        bounds = {"maps": maps, "threads": threads, "blocks": blocks}
        text.append(signature(name + suffix, spec.operands, spec.dims, **bounds))
        text.append(_bound(spec, body, wait))

    for tile, condition in tiles:
        if tile.packed and space == "0":
            text.append(f"#define SPLIT_PLANES {tile.planes}\n{planes.SPLIT}")
            add("_split", planes.START, planes.THREADS)
            grid = (f"{planes.blocks(spec)} * {_WIDE}", "1", "1")
            entries.append(Entry(grid, (planes.THREADS, 1, 1), suffix="_split", overlaps=True))
            space = f"{_WIDE} * {planes.size(spec, tile.planes)}"
        text.append(warpgroups.text(spec, tile))
        add(tile.suffix, warpgroups.body(tile), tile.threads, 3, tile.blocks)
        entries.append(
            Entry(
                (f"p0 * p1 * ceildiv(p2, {64 * tile.groups}) * {condition}", "1", "1"),
                (tile.threads, 1, 1),
                shared=str(tile.shared(spec)),
                suffix=tile.suffix,
                maps=tile.maps(spec),
                overlaps=True,
            )
        )
    together = "0"
    if hopper:
        together = f"{few} * {_clusters(fragments)}"
        text.append(finish.CLUSTER)
        body = direct.START.replace("FINISH", direct.TOGETHER)
        add("_cluster", body, 32 * fragments.warps, blocks=fragments.resident)
        entries.append(
            Entry(
                (f"units * {together}", "8", "1"),
                (32 * fragments.warps, 1, 1),
                shared=str(fragments.shared + 16 * 4 * (spec.value_dim + 2)),
                suffix="_cluster",
                cluster=(1, 8, 1),
                overlaps=True,
            )
        )
        few = f"{few} * (1 - {_clusters(fragments)})"
    split = f"{few} * {when(f'{several} - 1')}"
    body = direct.START.replace("FINISH", direct.ALONE)
    add("", body, 32 * fragments.warps, blocks=fragments.resident)
    add("_combine", finish.combine("p4", "p15", "p16", "p17"), 128)
    return CudaKernel(
        source="".join(text),
        entries=(
            *entries,
            Entry(
                (f"units * {few}", several, "1"),
                (32 * fragments.warps, 1, 1),
                shared=str(fragments.shared),
                overlaps=hopper,
            ),
            Entry(
                (f"ceildiv(p0 * p1 * p2, 4) * {split}", "1", "1"),
                (128, 1, 1),
                suffix="_combine",
                overlaps=hopper,
            ),
        ),
        workspace=f"max({space}, {several} * {when(f'{several} - 1')} * "
        f"p0 * p1 * p2 * {4 * (spec.value_dim + 2)} + 256)",
    )


_WIDE = f"{when('min(p3, p2 - 31)')} * {when('p0 * p1 * ceildiv(p2, 64) - sms // 2')}"
"""1 where there are enough rows for operands to be rounded or split before."""

_MANY = when("min(p3, p2 - 15)")
"""1 where blocks of 64 rows pay for operands that lie so."""


def _deep(size: int) -> str:
    """1 where blocks of 128 rows are faster: K and V are read less often, but fewer blocks compute
    softmax while others multiply."""
    blocks = "p0 * p1 * ceildiv(p2, 128)"
    if size <= 64:
        return when(f"min(p3 - 767, min({blocks} - sms // 2, 2 * sms - {blocks} * 2))")
    return when(f"min(p3 - 256, {blocks} - sms // 2)")


def _one(size: int) -> str:
    """1 where all keys in one tile are faster than tiles of 64: 12 x 128 x 128 took 2.6 instead of
    3.0 us on an H200 with heads of 32, 3.1 instead of 3.5 with heads of 64. Of many blocks with
    heads of 64 more fit beside each other with small tiles: 11.7, not 12.6 us for a batch of 32."""
    room = "1" if size <= 32 else "sms + 1 - p0 * p1 * ceildiv(p2, 64)"
    return when(f"min(p3 - 64, min(129 - p3, {room}))")


_SAME = "(1 - min(1, p20))"
"""1 where all queries share a mask."""


def _tiles(spec: GpuAttentionSpec) -> tuple[str, tuple[tuple[Tile, str], ...]]:
    """When tiles of warp groups compute a launch, 1 or 0, and each with when it is the one."""
    if spec.mask is None:
        return _tiles_of(spec, "plain")
    (same, shared), (other, general) = (_tiles_of(spec, kind) for kind in ("same", "rows"))
    if other == "0":
        return other, ()
    found = [(tile, f"{_SAME} * {condition}") for tile, condition in shared]
    found += [(tile, f"(1 - {_SAME}) * {condition}") for tile, condition in general]
    return f"({_SAME} * {same} + (1 - {_SAME}) * {other})", tuple(found)


def _tiles_of(spec: GpuAttentionSpec, mask: str) -> tuple[str, tuple[tuple[Tile, str], ...]]:
    """``mask``: "plain" for none, one of "rows", or the "same" for all of them."""
    largest = max(padded(spec.head_dim), padded(spec.value_dim))
    same, free = mask == "same", mask != "rows"
    if spec.math != "bf16":
        count = PLANES[spec.math]
        if largest > 128:
            return "0", ()
        keys = 64 if largest <= 64 else 32
        return _WIDE, ((Tile(2, keys, 2, 1, planes=count, packed=True, same=same), _WIDE),)
    packed = not warpgroups.lies_so(spec)
    # Few blocks whose rows have masks of their own take longer than blocks of 16 rows do.
    enough = _MANY if free and not packed else _WIDE
    wide = f"({enough})" if packed else f"({enough} * {warpgroups.aligned(spec)})"
    blocks = (4 if free else 2) if largest <= 64 else 2 if largest <= 128 else 1
    keys = 128 if largest <= 128 and free else 64
    long = Tile(2, keys, 2, 1, packed=packed, ordered=largest > 64, same=same)
    # Sums of large heads leave no room for scores of 64 keys and the masks of rows.
    few = 64 if largest <= 128 or free else 32
    short = Tile(1, few, 2, blocks, packed=packed, same=same)
    deep = _deep(largest)
    if not same or packed or largest > 64:
        return wide, ((long, f"{wide} * {deep}"), (short, f"{wide} * (1 - {deep})"))
    one = Tile(1, 128, 2, 2, same=True)
    alone = f"(1 - {deep}) * {_one(largest)}"
    rest = f"(1 - {deep}) * (1 - {_one(largest)})"
    return wide, (
        (long, f"{wide} * {deep}"),
        (one, f"{wide} * {alone}"),
        (short, f"{wide} * {rest}"),
    )


def _constants(spec: GpuAttentionSpec, fragments: Fragments) -> str:
    element = {"f32": "float", "bf16": "unsigned short"}
    factor = float(spec.scale) * 1.4426950408889634
    constants = {
        "HD": spec.head_dim,
        "VD": spec.value_dim,
        "BF16": int(spec.math == "bf16"),
        "SPLIT": int(spec.math == "tf32x3"),
        "MASK": {None: 0, "i8": 1, "f32": 4}[spec.mask],
        "CAUSAL": int(spec.causal),
        "MASKED_ZERO": int(spec.masked_zero),
        "CODES": 0,
        "HS": spec.head_dim,
        "VS": spec.value_dim,
        "KEY_BLOCK": 1,
        **fragments.constants,
    }
    lines = [f"#define {name} {value}" for name, value in constants.items()]
    lines.append(f"#define FACTOR {float.hex(factor)}f")
    for letter, stored in zip("QKVY", (spec.q, spec.k, spec.v, spec.y), strict=True):
        lines.append(f"#define {letter}T {element[stored]}")
    return "\n".join(lines) + "\n"


def _bound(spec: GpuAttentionSpec, body: str, wait: str) -> str:
    """``body`` with the operands of the spec."""
    masked = "p.mask = nullptr, p.mb = p.mh = p.mq = p.mk = 0;"
    if spec.mask is not None:
        masked = "p.mask = (const char *)a3, p.mb = p18, p.mh = p19, p.mq = p20, p.mk = p21;"
    body = body.replace("SETMASK", masked).replace("RESULT", f"a{spec.operands - 1}")
    return body.replace("WAIT", wait)
