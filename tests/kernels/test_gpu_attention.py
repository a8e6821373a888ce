"""Attention on GPUs: which entries compute which launch, and their machine code."""

from __future__ import annotations

import pytest

from tilewright.backends.cuda.toolchain import disassemble, disassembler, tools
from tilewright.backends.kernels.cached_attention import CachedAttentionSpec
from tilewright.backends.kernels.cached_attention import cuda as cached
from tilewright.backends.kernels.gpu_attention import FAMILY, GpuAttentionSpec, cuda
from tilewright.backends.kernels.gpu_attention.spec import LARGEST, candidates
from tilewright.backends.kernels.tasks import AttentionTask
from tilewright.backends.target import Target, lookup
from tilewright.runtime.expressions import evaluate
from tilewright.tools.bench.gpu_kernels import cubin

SM_80, SM_90A = lookup("sm_80"), lookup("sm_90a")
BF16 = {"math": "bf16", "q": "bf16", "k": "bf16", "v": "bf16", "y": "bf16"}
SPECS = [
    *(GpuAttentionSpec(size, size, 0.125) for size in (32, 64, 128)),
    GpuAttentionSpec(64, 64, 0.125, "f32", math="tf32"),
    GpuAttentionSpec(64, 64, 0.125, causal=True, math="bf16"),
    *(GpuAttentionSpec(size, size, 0.125, causal=True, **BF16) for size in (32, 64, 128, 256)),
    GpuAttentionSpec(64, 64, 0.125, "f32", **BF16),
    GpuAttentionSpec(256, 256, 0.125, "i8", causal=True, **BF16),
    GpuAttentionSpec(128, 128, 0.125, "i8"),
]
CACHES = [
    CachedAttentionSpec(size, size, 0.1, name, 4, mask)
    for size, mask in ((64, "f32"), (128, None))
    for name in ("int8", "int4")
]
needs_compiler = pytest.mark.skipif(not all(tools()), reason="no CUDA compiler or assembler")


def dims(batch: int, heads: int, queries: int, keys: int, size: int, group: int = 1) -> list[int]:
    """Of operands [batch, sequence, heads, size]."""
    shared = heads // group
    q = (queries * heads * size, size, heads * size)
    k = (keys * shared * size, size, shared * size)
    return [batch, heads, queries, keys, group, 0, *q, *k, *k, *q]


def masked(*sizes: int, rows: int) -> list[int]:
    """As `dims`, with a mask [batch, 1, queries or 1, keys]."""
    _, _, queries, keys, *_ = sizes
    return [*dims(*sizes), keys * (queries if rows else 1), 0, keys * rows, 1]


def launched(
    spec: GpuAttentionSpec, sizes: list[int], at: int = 256, sms: int = 132
) -> dict[str, tuple[int, ...]]:
    """Suffixes of the entries with their grids, the operands at addresses ``at``."""
    kernel = cuda.kernel(spec, SM_90A, "attention")
    values = {f"p{i}": value for i, value in enumerate(sizes)}
    values |= {f"a{i}": at for i in range(spec.operands)}
    values |= {"sms": sms, "units": evaluate(FAMILY.units(spec), values)}
    grids = {e.suffix: tuple(evaluate(text, values) for text in e.grid) for e in kernel.entries}
    assert evaluate(kernel.workspace, values) >= 0
    return {suffix: grid for suffix, grid in grids.items() if 0 not in grid}


SMALL, LARGE = (GpuAttentionSpec(size, size, 0.125, **BF16) for size in (64, 128))
PLAIN, MASKED = GpuAttentionSpec(64, 64, 0.125), GpuAttentionSpec(64, 64, 0.125, "f32", **BF16)


@pytest.mark.parametrize(
    ("spec", "sizes", "at", "expected"),
    [
        (SMALL, (32, 12, 128, 128, 64), 256, {"_1x64"}),
        (SMALL, (4, 16, 2048, 2048, 64), 256, {"_1x64"}),
        (SMALL, (1, 12, 1024, 1024, 64), 256, {"_2x128"}),
        (LARGE, (4, 16, 2048, 2048, 128), 256, {"_2x128"}),
        (SMALL, (1, 12, 128, 128, 64), 256, {"_1x64"}),
        # Not where boxes could lie.
        (SMALL, (4, 16, 2048, 2048, 64), 264, {""}),
        (SMALL, (1, 4, 1, 100, 64), 256, {""}),
        (SMALL, (1, 4, 1, 100, 64, 4), 256, {""}),
        (SMALL, (1, 4, 1, 9000, 64, 4), 256, {"", "_combine"}),
        (SMALL, (1, 4, 0, 9000, 64), 256, set()),
        (SMALL, (4, 64, 128, 0, 64), 256, {""}),
        (PLAIN, (32, 12, 128, 128, 64), 256, {"_split", "_2x64"}),
        # Planes lie in the workspace, wherever operands are.
        (PLAIN, (32, 12, 128, 128, 64), 260, {"_split", "_2x64"}),
        (PLAIN, (1, 4, 1, 9000, 64), 256, {"", "_combine"}),
        (PLAIN, (1, 4, 1, 1000, 64), 256, {"_cluster"}),
        (PLAIN, (1, 12, 128, 128, 64), 256, {""}),
    ],
)
def test_one_way_computes_a_launch(
    spec: GpuAttentionSpec, sizes: tuple[int, ...], at: int, expected: set[str]
) -> None:
    assert set(launched(spec, dims(*sizes), at)) == expected


@pytest.mark.parametrize(
    ("sizes", "rows", "expected"),
    [
        ((1, 12, 128, 128, 64), 1, {""}),
        ((32, 12, 128, 128, 64), 1, {"_1x64"}),
        ((1, 12, 1024, 1024, 64), 1, {"_2x64"}),
        ((1, 12, 128, 128, 64), 0, {"_1x128_same"}),
        ((1, 12, 128, 64, 64), 0, {"_1x64_same"}),
        ((1, 12, 128, 129, 64), 0, {"_1x64_same"}),
        ((32, 12, 128, 128, 64), 0, {"_1x64_same"}),
        ((1, 12, 1024, 1024, 64), 0, {"_2x128_same"}),
        ((1, 12, 1, 1024, 64), 0, {"_cluster"}),
    ],
)
def test_masks_that_all_queries_share_have_a_way_of_their_own(
    sizes: tuple[int, ...], rows: int, expected: set[str]
) -> None:
    assert set(launched(MASKED, masked(*sizes, rows=rows))) == expected


def test_strides_of_what_is_there_once_do_not_count() -> None:
    sizes = dims(1, 12, 128, 128, 64)
    sizes[6] = sizes[9] = sizes[12] = 1
    assert set(launched(SMALL, sizes)) == {"_1x64"}
    sizes[0] = 2
    assert set(launched(SMALL, sizes)) == {""}
    # Keys that are the same for all of the batch, and that are all the same.
    sizes[6] = sizes[12] = 128 * 12 * 64
    sizes[9] = 0
    assert set(launched(SMALL, sizes)) == {"_1x64"}
    sizes[11] = 0
    assert set(launched(SMALL, sizes)) == {""}


def test_boxes_have_strides_that_the_accelerator_takes() -> None:
    sizes = dims(1, 1, 128, 128, 64)
    sizes[6:8] = [1, 9]
    values = {f"p{i}": value for i, value in enumerate(sizes)}
    entry = next(e for e in cuda.kernel(SMALL, SM_90A, "attention").entries if e.maps)
    for box in entry.maps:
        steps = [evaluate(text, values) for text in box.strides]
        assert all(step > 0 and step % 16 == 0 for step in steps), steps


def test_blocks_of_a_long_past_fill_the_device() -> None:
    grids = launched(GpuAttentionSpec(128, 128, 0.1, **BF16), dims(1, 32, 1, 32768, 128, 4))
    assert grids[""] == (8, 16, 1)
    assert grids["_combine"] == (8, 1, 1)


def test_rows_of_the_heads_that_share_keys_are_one_block() -> None:
    assert launched(SMALL, dims(2, 8, 4, 200, 64, 4))[""] == (4, 1, 1)
    assert launched(SMALL, dims(2, 8, 4, 300, 64, 4)) == {"_cluster": (4, 8, 1)}


def test_larger_heads_are_not_answered() -> None:
    assert candidates(AttentionTask(LARGEST, LARGEST, 1.0), SM_90A)
    assert not candidates(AttentionTask(LARGEST + 1, 64, 1.0), SM_90A)
    with pytest.raises(ValueError, match="heads of 257 and 64; at most 256"):
        GpuAttentionSpec(257, 64, 1.0)


def test_only_products_of_bf16_read_bf16() -> None:
    with pytest.raises(ValueError, match="products of tf32 of bf16, f32, f32, f32"):
        GpuAttentionSpec(64, 64, 1.0, math="tf32", q="bf16")


@needs_compiler
@pytest.mark.parametrize("target", [SM_80, SM_90A], ids=lambda t: t.name)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_no_register_is_spilled(spec: GpuAttentionSpec, target: Target) -> None:
    made = cubin(cuda.kernel(spec, target, "attention"), "attention", target)
    assert {r.entry for r in made.resources} >= {"attention", "attention_combine"}
    # sm_80 has no room for the addresses of large heads of bf16: six registers of 128 sizes.
    most = 0 if target == SM_90A else 24 if spec.head_dim <= 128 else 256
    for found in made.resources:
        assert max(found.spill_stores, found.spill_loads) <= most, found


@needs_compiler
@pytest.mark.parametrize("target", [SM_80, SM_90A], ids=lambda t: t.name)
@pytest.mark.parametrize("spec", CACHES, ids=str)
def test_codes_are_widened_in_registers(spec: CachedAttentionSpec, target: Target) -> None:
    made = cubin(cached.kernel(spec, target, "attention"), "attention", target)
    assert {r.entry for r in made.resources} == {"attention", "attention_combine"}
    for found in made.resources:
        assert max(found.spill_stores, found.spill_loads) == 0, found


@needs_compiler
def test_tensor_cores_multiply() -> None:
    if not disassembler():
        pytest.skip("no cuobjdump to look at machine code with")
    text = disassemble(cubin(cuda.kernel(SMALL, SM_90A, "attention"), "attention", SM_90A).code)
    # Scores of 128 keys, values of 64 sizes.
    assert "HGMMA.64x128x16.F32.BF16" in text
    assert "HGMMA.64x64x16.F32.BF16" in text
    assert "UTMALDG.4D" in text
    assert "HMMA.16816.F32.BF16" in text
