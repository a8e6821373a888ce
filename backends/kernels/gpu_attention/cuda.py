"""Attention kernels for GPUs: which entry computes which launch, and its text."""

from __future__ import annotations

from tilewright.backends.cuda.kernel import CudaKernel, Entry
from tilewright.backends.cuda.signature import signature, when
from tilewright.backends.kernels.gpu_attention import direct
from tilewright.backends.kernels.gpu_attention.fragments import Fragments
from tilewright.backends.kernels.gpu_attention.spec import GpuAttentionSpec
from tilewright.backends.kernels.gpu_attention.text import COMMON
from tilewright.backends.target import Target

PART = 256
"""Keys of a block at least, where several share those of a head."""

TILES = "p0 * (p1 // max(p4, 1)) * ceildiv(p2 * p4, 16)"
"""Blocks of 16 rows that share a head of K and V."""

PARTS = f"max(1, min(ceildiv(p3, {PART}), 2 * sms // max(1, {TILES})))"
"""Parts of the keys: as many as let every multiprocessor have two blocks."""


def kernel(spec: GpuAttentionSpec, target: Target, name: str) -> CudaKernel:
    """Blocks of 16 rows, and what puts parts of their keys together."""
    fragments = Fragments.of(spec)
    wait = "griddepcontrol.wait" if _overlaps(target) else ""
    text = [_constants(spec, fragments), COMMON, direct.DIRECT]
    for suffix, body, threads in (
        ("", direct.START, 32 * fragments.warps),
        ("_combine", direct.COMBINE, 128),
    ):
        operands, dims = spec.operands, spec.dims
        text.append(signature(name + suffix, operands, dims, threads=threads))
        text.append(_bound(spec, body, wait))
    return CudaKernel(
        source="".join(text),
        entries=(
            Entry(
                (TILES, PARTS, "1"),
                (32 * fragments.warps, 1, 1),
                shared=str(fragments.shared),
                overlaps=bool(wait),
            ),
            Entry(
                (f"ceildiv(p0 * p1 * p2, 4) * {when(f'{PARTS} - 1')}", "1", "1"),
                (128, 1, 1),
                suffix="_combine",
                overlaps=bool(wait),
            ),
        ),
        workspace=f"{when(f'{PARTS} - 1')} * "
        f"(256 + {PARTS} * p0 * p1 * p2 * {4 * (spec.value_dim + 2)})",
    )


def _overlaps(target: Target) -> bool:
    """Whether launches may begin before the one before them has ended."""
    return int("".join(c for c in target.cpu if c.isdigit())) >= 90


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
    waiting = f'asm volatile("{wait};" ::: "memory");' if wait else ""
    body = body.replace("SETMASK", masked).replace("RESULT", f"a{spec.operands - 1}")
    return body.replace("WAIT", waiting)
