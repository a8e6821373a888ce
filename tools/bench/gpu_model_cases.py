"""The models that `bench_gpu_models` times: sizes, inputs, and how they are compiled."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.backends.artifact.error_report import format_keys
from tilewright.backends.llvm.lowering.lower import questions
from tilewright.backends.target import lookup
from tilewright.compiler.driver import compile_model, run_passes
from tilewright.compiler.frontend.load import load_onnx
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.options import Options
from tilewright.passes.pipelines import PIPELINES
from tilewright.passes.quantization.planned import Planned
from tilewright.tools.bench.transformer_graphs import (
    BERT_BASE,
    MINILM,
    Decoder,
    Encoder,
    decoder_graph,
    encoder_graph,
)

CODELM = Decoder()
F16, W4 = "f16", "w4-g64"
ERRORS = {"bf16": 1e-2, F16: 1e-3, W4: 1e-2}
"""Bounds that permit the numerics of a case."""

JOBS = 2
"""Processes that compile kernels of a model; as many models as there are cases compile at once."""


@dataclass(frozen=True)
class Case:
    """A model at one size. `past` of a decoder's step; None: all tokens at once. numerics: bf16,
    f16, or the weight format of all products that can have it."""

    sizes: Encoder | Decoder
    batch: int
    seq: int
    past: int | None = None
    numerics: str = "bf16"

    @property
    def peer(self) -> str:
        """Name of the case in bf16, which the peer runs."""
        size = f"b{self.batch}_s{self.seq}" if self.past is None else f"b{self.batch}_p{self.past}"
        return f"{self.sizes.name}_{size}"

    @property
    def name(self) -> str:
        """For tables and `--cases`."""
        return self.peer if self.numerics == "bf16" else f"{self.peer}_{self.numerics}"


CASES = (
    Case(MINILM, 1, 128),
    Case(MINILM, 32, 128),
    Case(BERT_BASE, 1, 128),
    Case(BERT_BASE, 32, 128),
    Case(CODELM, 1, 1, 128),
    Case(CODELM, 1, 1, 128, F16),
    Case(CODELM, 1, 1, 128, W4),
    Case(CODELM, 1, 128),
    Case(CODELM, 1, 128, None, F16),
    Case(CODELM, 1, 128, None, W4),
)


def inputs(case: Case, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs of a case by name."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, case.sizes.words, (case.batch, case.seq)).astype(np.int64)
    found: dict[str, np.ndarray[Any, Any]] = {"input_ids": ids}
    if isinstance(case.sizes, Encoder):
        mask = np.ones((case.batch, case.seq), np.int64)
        mask[-1, case.seq * 3 // 4 :] = 0
        found["attention_mask"] = mask
    elif case.past is not None:
        sizes = case.sizes
        shape = (sizes.layers, case.batch, sizes.groups, case.past, sizes.size)
        for name in ("past_k", "past_v"):
            found[name] = rng.standard_normal(shape, np.float32)
    return found


def graph(case: Case) -> bytes:
    """Its ONNX file."""
    if isinstance(case.sizes, Encoder):
        return bytes(encoder_graph(case.sizes).SerializeToString())
    return bytes(decoder_graph(case.sizes, case.past is not None).SerializeToString())


def _options(case: Case, plan: Path) -> Options:
    """Kernels are chosen for the case's sizes, as the peer's are. plan: where one is written if
    weights are in a format."""
    typical = {"batch": case.batch, "seq": case.seq}
    if case.past is not None:
        typical = {"batch": case.batch, "past": case.past}
    if case.numerics == W4:
        plan.write_text(json.dumps(planned(load_onnx(graph(case), {}), case.numerics)))
    options = Options(("sm_90a",), max_error=ERRORS[case.numerics], typical=typical, jobs=JOBS)
    return replace(options, plan=str(plan)) if case.numerics == W4 else options


def planned(model: Graph, name: str) -> dict[str, Any]:
    """A plan with the weights of all products that can have it in a format, all else in bf16."""
    recognized = run_passes(model, (*PIPELINES["recognize"], *PIPELINES["fuse"]))
    could: dict[tuple[str, str], set[str]] = {}
    for question in questions(recognized, lookup("sm_90a"), Planned(recognized)):
        if len(question.parts) == 1:
            names = {candidate.numerics for candidate in question.candidates}
            could.setdefault(question.parts[0], set()).update(names)
    keys = format_keys(list(could))
    chosen = [name if name in every else "bf16" for every in could.values()]
    formats = {
        key: one if one in every else "f32"
        for key, one, every in zip(keys, chosen, could.values(), strict=True)
    }
    return {"variants": {"sm_90a": {"formats": formats}}}


def compile_case(case: Case, path: Path) -> None:
    """The artifact of a case at `path`; what lies there is kept."""
    if not path.exists():
        part = path.with_suffix(".part")
        compile_model(graph(case), part, _options(case, path.with_suffix(".json")))
        part.rename(path)
