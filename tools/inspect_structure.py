"""The structure of a model's weights, as `tilewright inspect --structure` tells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tilewright.compiler.driver_stages import rewriting_prices, run_passes
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.options import Options
from tilewright.passes.pipelines import EXACT_REWRITES, PIPELINES, Step
from tilewright.passes.structure.found import Energy, Found
from tilewright.passes.structure.model import WeightStructure, model_structure


def describe_structure(
    graph: Graph, options: Options, progress: Callable[[str], None]
) -> dict[str, Any]:
    """`weights`, a row each in the order of execution, and `rewrites`, what a compile with these
    options makes of them: JSON's types only. graph: that of the import."""
    names = PIPELINES["recognize"]
    start = names.index(EXACT_REWRITES[0])
    seen = run_passes(graph, names[:start])
    weights = [_weight(w) for w in model_structure(seen, progress=progress)]
    steps: list[Step] = []
    run_passes(seen, EXACT_REWRITES, steps.append, rewriting_prices(graph, options))
    rewrites = [{"pass": s.name, **asdict(r)} for s in steps for r in s.rewrites]
    return {"weights": weights, "rewrites": rewrites}


def _weight(found: WeightStructure) -> dict[str, Any]:
    scanned = found.scanned
    return {
        "weight": found.constant,
        "nodes": list(found.names),
        "shape": [found.k, found.n],
        "exact": [_exact(f) for f in scanned.exact],
        "approximate": [_energy(e) for e in scanned.energies],
        "shared": None if found.shared is None else found.shared.text,
        "note": scanned.note,
        "verdict": found.verdict,
    }


def _exact(found: Found) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "text": found.text,
        "residual": found.residual,
        "bytes": found.bytes(),
        "multiplications": found.work,
        "saved_bytes": found.saved_bytes,
        "saved_multiplications": found.saved_work,
    }


def _energy(energy: Energy) -> dict[str, Any]:
    return {
        "kind": energy.kind,
        "text": energy.text,
        "lost": energy.lost,
        "null": energy.null,
        "by_inputs": energy.by_inputs,
        "better": energy.better,
    }


def structure_rows(weights: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of the table: weight, K x N, exact structure, approximate structure with its loss beside
    that of chance, verdict."""
    rows: list[tuple[str, ...]] = []
    for w in weights:
        exact = [f"{e['kind']}: {e['text']}" for e in w["exact"]]
        if w["shared"] is not None:
            exact.append(f"shared: {w['shared']}")
        near = min(w["approximate"], key=lambda e: e["lost"] / max(e["null"], 1e-30), default=None)
        told = ("", "", "") if near is None else _told(near)
        k, n = w["shape"]
        verdict = w["verdict"] if not w["note"] else f"{w['verdict']}: {w['note']}"
        rows.append((w["weight"], f"{k} x {n}", "\n".join(exact) or "-", *told, verdict))
    return rows


def _told(energy: dict[str, Any]) -> tuple[str, str, str]:
    words = f"{energy['kind']}: {energy['text']}"
    return words, f"{energy['lost']:.1%}", f"{energy['null']:.1%}"


def rewrite_rows(rewrites: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Rows of the table: ONNX nodes, weight, its structure, whether it is used, how or why not."""
    return [
        (r["source"], r["weight"], r["found"], "yes" if r["applied"] else "no", r["text"])
        for r in rewrites
    ]


REWRITE_COLUMNS = ("ONNX nodes", "weight", "structure", "used", "as, or why not")


def summary(weights: list[dict[str, Any]]) -> str:
    """One line of how many weights have what."""
    counts: dict[str, int] = {}
    for w in weights:
        counts[w["verdict"]] = counts.get(w["verdict"], 0) + 1
    elements = sum(w["shape"][0] * w["shape"][1] for w in weights)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"{len(weights)} weights of {elements:,} elements: {told}"
