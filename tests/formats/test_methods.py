"""The table of methods names what is there."""

import re
from pathlib import Path

import pytest

from tilewright.compiler.formats import formats, named
from tilewright.compiler.formats.caches import CACHES
from tilewright.compiler.formats.format import WeightFormat
from tilewright.compiler.formats.sliced import WIDTHS
from tilewright.tools.cli.compile import command

TABLE = Path(__file__).parents[2] / "docs/methods.md"
WORDS = {"mma"}
"""In the marks of names, but none of a format."""
STATES = {"kernel", "pass", "part", "emulated", "rejected"}
HEAD = ["| Method | State | Name | Source | Why |", "|---|---|---|---|---|"]
TABLES = [part for part in TABLE.read_text().split("\n\n") if part.startswith("|")]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for table in TABLES
    for line in table.splitlines()[2:]
]

PUBLISHED = """
LLM.int8(), LUT-GEMM, T-MAC, BitNet, MatQuant, MatGPTQ, GPTQ, AWQ, SmoothQuant, GLVQ, LQ-LoRA,
ABQ-LLM, APT-LLM, FlattenQuant, COMET, QUICK, MixPE, ShiftAddLLM, AffineQuant, MergeQuant,
BCT, SAIL, QuaRot, CommVQ, VQ-Logits, MADDNESS, MemoryFormer, L-Mul, MatMul-free, Scalify,
LR^2VQ, CROSS, SMaT, BLaST, Flash-LLM, SpInfer, 4x1, SMASH, ARMOR, 2:4, S-STE, TorchSparse,
CAMERA, SliceGPT, SPT, SparseGPT, Wanda, SparseTransX, MLMC, PAMM, CURing, ANNCUR,
meta-factorization, FWSVD, ASVD, SVD-LLM, Dobi-SVD, WeLore, MoDeGPT, MASA, fast updates, Monarch,
BLAST, block tensor, Kronecker, PHM, MPO, Hadamard, Fourier, Toeplitz, quasiseparable, GLA,
DeltaNet, Hydra, Strassen, parity, ABFT, COSMA, OLLA, MiniMalloc, TelaMalloc, IOPDDL, GPPerf,
BLIS, VNNI, AMX, Marlin, Machete, Stream-K, CUDA-L2, ThunderKittens, tensor cores,
FlashAttention, indirect convolution, Cut Cross-Entropy, NeuPIMs, Megatron, JAMPI,
FiniteFieldSolve, THOR, RISC-V, MLIR, own linker
"""
"""What was looked at: quantization; sparsity, low rank, structure; compilers."""


@pytest.mark.parametrize("method", re.split(r",\s+", PUBLISHED.strip()))
def test_what_was_looked_at_has_a_row(method: str) -> None:
    assert any(method in row[0] for row in ROWS)


def test_rows_are_whole() -> None:
    assert len(TABLES) == 3
    for table in TABLES:
        assert table.splitlines()[:2] == HEAD
    assert len(ROWS) >= 96
    for row in ROWS:
        assert len(row) == 5, row
        assert row[1] in STATES, row
        assert all(row), row
    assert len({row[0] for row in ROWS}) == len(ROWS)


def names() -> list[str]:
    found = (re.findall(r"`([^`]+)`", row[2] + row[4]) for row in ROWS)
    named_so = (name for one in found for name in one)
    others = WORDS | {path.name for path in (TABLE.parents[1] / "backends/kernels").iterdir()}
    return [n for n in named_so if not n.startswith("--") and "/" not in n and n not in others]


def test_every_file_in_it_exists() -> None:
    """Of the repository: `compiler/..`, not `mine/..`."""
    root = TABLE.parents[1]
    found = {n for row in ROWS for n in re.findall(r"`(\w+/[^` ]*)`", " ".join(row))}
    assert len(found) > 30
    assert not [name for name in found if not (root / name).exists()]


@pytest.mark.parametrize("name", sorted(set(names())))
def test_every_format_in_it_exists(name: str) -> None:
    assert isinstance(named(name), WeightFormat)
    assert named(name).name == name


def test_every_option_in_it_is_taken() -> None:
    options = {text for row in ROWS for text in re.findall(r"`--([^`]+)`", row[2])}
    known = {parameter.opts[0] for parameter in command.params}
    for option in options:
        kind, _, value = option.partition(" ")
        assert f"--{kind}" in known
        if kind == "slices":
            assert {int(part) for part in value.split(",")} <= set(WIDTHS)
        if kind == "kv-cache":
            assert value in CACHES


def test_every_kind_of_format_is_in_it() -> None:
    """Each class of formats by at least one of its names."""
    kinds = {type(named(name)) for name in names()}
    missing = {type(made).__name__ for made in formats().values()} - {k.__name__ for k in kinds}
    assert not missing
