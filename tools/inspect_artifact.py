"""What `tilewright inspect` finds in an artifact; needs numpy alone and runs none of its code."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tilewright.runtime.cpu import runnable_variants
from tilewright.runtime.errors import ArtifactError, FeedError, TargetError, nearest
from tilewright.runtime.expressions import ExpressionError, evaluate
from tilewright.runtime.loader import ArtifactFile, open_artifact
from tilewright.runtime.manifest import PLAN_FILE

COLUMNS = 60
"""Width of the picture of the arena, in characters."""


def open_whole(path: Path) -> ArtifactFile:
    """The artifact, all of its bytes checked. Raises ArtifactError."""
    file = open_artifact(path)
    file.wait_verified()
    return file


def read_plan(file: ArtifactFile) -> dict[str, Any]:
    """plan.json, which describes how the code was made. Raises ArtifactError if it is not valid."""
    try:
        plan = json.loads(bytes(file.read(PLAN_FILE)))
        assert isinstance(plan["variants"], dict)
    except (ValueError, KeyError, TypeError, AssertionError) as damage:
        hint = "compile the artifact again"
        raise ArtifactError(file.where, "the plan is not valid", str(damage), hint) from None
    return dict(plan)


def describe_artifact(file: ArtifactFile, plan: Mapping[str, Any]) -> dict[str, Any]:
    """Signature, variants, sizes and a summary of the plan."""
    manifest = file.manifest
    try:
        runs = {v.target for v in runnable_variants(file.where, manifest.variants)}
    except TargetError:
        runs = set()
    return {
        "artifact": file.where,
        "name": manifest.name,
        "producer": manifest.producer,
        "metadata": dict(manifest.metadata),
        "inputs": [_tensor(t) for t in manifest.inputs],
        "outputs": [_tensor(t) for t in manifest.outputs],
        "dims": {name: list(bounds) for name, bounds in manifest.dims.items()},
        "variants": [
            {
                "target": v.target,
                "machine": v.machine,
                "slice": v.slice,
                "features": list(v.features),
                "bytes": file.entry(v.file).size,
                "runs_here": v.target in runs,
            }
            for v in manifest.variants
        ],
        "entries": {name: entry.size for name, entry in sorted(file.entries.items())},
        "bytes": len(file.data),
        "launches": len(manifest.launches),
        "operations": dict(_operations(plan).most_common()),
    }


def _tensor(info: Any) -> dict[str, Any]:
    return {"name": info.name, "dtype": info.dtype, "shape": list(info.shape)}


def _operations(plan: Mapping[str, Any]) -> Counter[str]:
    variants: Mapping[str, Any] = plan["variants"]
    for variant in variants.values():
        return Counter(launch["operation"] for launch in variant["launches"])
    return Counter()


def variant_plan(where: str, plan: Mapping[str, Any], target: str | None) -> tuple[str, Any]:
    """The target and the plan of one variant, the first by default. Raises TargetError."""
    variants: Mapping[str, Any] = plan["variants"]
    if target is None:
        return next(iter(variants.items()))
    if target not in variants:
        hint = "see `tilewright inspect` for the variants"
        raise TargetError(where, f"there is no variant {target!r}", nearest(target, variants), hint)
    return target, variants[target]


def memory_rows(
    memory: Mapping[str, Any], shape: Mapping[str, int]
) -> tuple[list[dict[str, Any]], int, dict[str, int]]:
    """The buffers with their sizes in numbers, the arena's bytes, and the dimensions' values.

    Dimensions have the plan's nominal values where `shape` does not name them. Raises FeedError
    for a dimension that the plan does not use.
    """
    values = {**memory["arena_at"], **shape}
    for name in shape:
        if name not in memory["arena_at"]:
            have = ", ".join(memory["arena_at"]) or "none"
            raise FeedError(
                f"--shape {name}", "the memory plan does not depend on it", f"has {have}"
            )
    try:
        rows = [
            {
                **row,
                "bytes_at": evaluate(row["bytes"], values),
                "offset_at": evaluate(row["offset"], values),
            }
            for row in memory["buffers"]
        ]
        return rows, evaluate(memory["arena"], values), values
    except ExpressionError as wrong:
        raise ArtifactError("plan.json", "the memory plan is not valid", str(wrong)) from None


def picture(rows: Sequence[Mapping[str, Any]], arena: int) -> list[str]:
    """One line a buffer: where it lies in the arena, drawn to scale over `COLUMNS` characters."""
    lines = []
    for row in rows:
        start = row["offset_at"] * COLUMNS // max(arena, 1)
        end = -(-(row["offset_at"] + row["bytes_at"]) * COLUMNS // max(arena, 1))
        lines.append(
            "." * start + "#" * max(end - start, 1) + "." * (COLUMNS - max(end, start + 1))
        )
    return lines
