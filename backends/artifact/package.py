"""The parts of an artifact, from lowered variants to the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tilewright.backends.artifact.error_report import formats_report
from tilewright.backends.artifact.launch_work import launch_work
from tilewright.backends.artifact.safetensors import TensorSpec, WeightLayout, plan_weights
from tilewright.backends.artifact.selection_report import selection_report
from tilewright.backends.artifact.structure_report import structure_report
from tilewright.backends.artifact.writer import write_artifact
from tilewright.backends.cuda.toolchain import architectures
from tilewright.backends.llvm.backend import Lowered
from tilewright.backends.llvm.body import collect_errors
from tilewright.backends.llvm.emitters import kernel_name
from tilewright.backends.llvm.lowering.state import PackedWeight
from tilewright.compiler.contract import Contract
from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.slice_contract import SliceContract
from tilewright.runtime.manifest import Launch, Manifest, TensorInfo
from tilewright.runtime.manifest import Variant as ManifestVariant

PRODUCER = "tilewright 0.1.0"


class MemoryPlan(Protocol):
    """What the report says of a memory plan."""

    @property
    def arena(self) -> Dim: ...
    @property
    def bound(self) -> int: ...
    @property
    def nominal(self) -> int: ...
    @property
    def env(self) -> Mapping[str, int]: ...
    @property
    def method(self) -> str: ...
    def proof(self) -> dict[str, Any]: ...


class PassStep(Protocol):
    """What the report says of a pass."""

    @property
    def name(self) -> str: ...
    @property
    def changed(self) -> bool: ...
    @property
    def rewrites(self) -> tuple[Any, ...]: ...


@dataclass(frozen=True)
class Variant:
    """Code for one target: the lowered program, its entries of the artifact (first the one that
    the manifest names), memory plan and tiers."""

    lowered: Lowered
    code: Mapping[str, bytes]
    plan: MemoryPlan
    tiers: Mapping[str, str]


def write_package(
    path: Path,
    name: str,
    variants: Sequence[Variant],
    weights: Sequence[PackedWeight],
    steps: Sequence[PassStep],
    contract: Contract | SliceContract | None = None,
    *,
    trial: bool = False,
) -> int:
    """Write the artifact at `path` and return its size in bytes.

    weights: what `share_weights` gave for these variants. contract: of errors, if one was kept.
    trial: leave the plan empty, of what is only run and thrown away.
    Raises `ArtifactWriteError`.
    """
    first = variants[0].lowered
    layout = layout_of(weights)
    offsets = {layout.offsets[spec.name] for spec in layout.specs}
    for variant in variants:
        known = offsets.issuperset(variant.lowered.layout.weights)
        assert known, "compiled offsets differ from the file's"
    code = {name: data for v in variants for name, data in v.code.items()}
    manifest = Manifest(
        producer=PRODUCER,
        name=name,
        inputs=tuple(_tensor(v.name, v) for v in first.graph.inputs),
        outputs=tuple(
            _tensor(n, v)
            for n, v in zip(first.graph.output_names, first.graph.outputs, strict=True)
        ),
        variants=tuple(_variant(v, first) for v in variants),
        dims=_bounds(first.graph),
        weights_base=layout.base,
        launches=tuple(_launches(first)),
        errors=collect_errors(first.graph, first.state.program).table,
        metadata=dict(first.graph.metadata),
    )
    report = {} if trial else plan_report(variants, steps, contract)
    plan = json.dumps(report, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    write_artifact(path, manifest, code, layout, _weights(weights, layout), plan)
    return path.stat().st_size


def check_size(weights: Sequence[PackedWeight], most: int | None) -> None:
    """Raise UserError for packed weights of more than `most` bytes (None: no cap)."""
    need = sum(weight.bytes for weight in weights)
    if most is not None and need > most:
        found = f"the smallest choice has {need:,} bytes of packed weights"
        raise UserError(f"max-size {most:,}", "cannot be kept", found)


def layout_of(weights: Sequence[PackedWeight]) -> WeightLayout:
    """Where the packed weights lie; names that repeat get a number."""
    specs: list[TensorSpec] = []
    seen: dict[str, int] = {}
    for weight in weights:
        stem = weight.name.lstrip("_") or "weight"
        count = seen.get(stem, 0)
        seen[stem] = count + 1
        name = stem if not count else f"{stem}#{count}"
        specs.append(TensorSpec(name, "u8", (weight.bytes,)))
    return plan_weights(specs)


def _weights(
    weights: Sequence[PackedWeight], layout: WeightLayout
) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for weight, spec in zip(weights, layout.specs, strict=True):
        data = np.ascontiguousarray(weight.load()).reshape(-1).view(np.uint8)
        assert data.size == weight.bytes, f"{weight.name}: {data.size} bytes, not {weight.bytes}"
        yield spec.name, data


def _tensor(name: str, value: Value) -> TensorInfo:
    shape = tuple(d if isinstance(d, int) else str(d) for d in value.shape)
    return TensorInfo(name, str(value.dtype), shape)


def _variant(variant: Variant, first: Lowered) -> ManifestVariant:
    lowered, target = variant.lowered, variant.lowered.target
    own = None if lowered is first else tuple(_launches(lowered))
    features = tuple(f for f in target.all_features if not f.startswith("-"))
    machine = target.triple.split("-")[0]
    if target.gpu:
        features, machine = architectures(target), "cuda"
    return ManifestVariant(
        target.name,
        next(iter(variant.code)),
        features,
        len(target.chain),
        machine,
        own,
        lowered.slice,
    )


def _bounds(graph: Graph) -> dict[str, tuple[int, int | None]]:
    shapes = {name: s for name, s in graph.symbols.items() if s.source[0] == "shape"}
    return {name: (symbol.low, symbol.high) for name, symbol in shapes.items()}


def _launches(lowered: Lowered) -> Iterator[Launch]:
    for launch in lowered.launches:
        name = kernel_name(launch.spec, lowered.target)
        yield Launch(name, launch.source, str(launch.flops), str(launch.bytes))


def plan_report(
    variants: Sequence[Variant],
    steps: Sequence[PassStep],
    contract: Contract | SliceContract | None = None,
) -> dict[str, Any]:
    """plan.json: the passes, the error contract or the slices if there are any, and for every
    variant its launches, choices and memory map."""
    kind = "slices" if isinstance(contract, SliceContract) else "contract"
    report: dict[str, Any] = {
        **({} if contract is None else {kind: contract.document()}),
        "passes": [{"name": s.name, "changed": s.changed} for s in steps],
        "rewrites": [{"pass": s.name, **asdict(r)} for s in steps for r in s.rewrites],
        "variants": {},
    }
    for variant in variants:
        lowered, plan = variant.lowered, variant.plan
        selection = lowered.state.selection
        report["variants"][lowered.name] = {
            "formats": {} if selection is None else formats_report(selection),
            "launches": [
                {
                    "kernel": kernel_name(launch.spec, lowered.target),
                    "operation": launch.label,
                    "source": launch.source,
                    "joined": launch.joint,
                    "tier": variant.tiers[kernel_name(launch.spec, lowered.target)],
                    "units": str(launch.units),
                    "flops": str(launch.flops),
                    "bytes": str(launch.bytes),
                    **launch_work(launch, lowered.target, plan.env),
                }
                for launch in lowered.launches
            ],
            "selection": selection_report(lowered.state),
            "structures": structure_report(lowered.state),
            "notes": [{"source": s, "note": n} for s, n in lowered.state.notes],
            "memory": {
                "method": plan.method,
                "arena": str(plan.arena),
                "max_live": plan.bound,
                "arena_at": dict(plan.env),
                "arena_bytes": plan.nominal,
                "proof": plan.proof(),
                "buffers": [
                    {
                        "name": row.name,
                        "first": row.first,
                        "end": row.end,
                        "bytes": str(row.bytes),
                        "offset": str(row.offset),
                    }
                    for row in lowered.memory
                ],
            },
        }
    return report
