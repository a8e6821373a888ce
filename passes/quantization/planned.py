"""Formats that a plan gives to operations, read from plan.json or an artifact."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.formats import formats, named
from tilewright.compiler.formats.format import Encoded
from tilewright.compiler.ir.core import Graph
from tilewright.passes.quantization.calibration import SUMS
from tilewright.passes.quantization.errors import Squares
from tilewright.passes.quantization.sites import Site, rounded_as, sites

EXACT = "f32"
"""Numerics of operations that a plan does not list, where nothing says what errors others make."""


DERIVED = re.compile(r"(\.(live|shrunk|rotated)(\.\d+)?)+$")
"""What the names of constants end in that were made of others for smaller dimensions."""


@dataclass(frozen=True)
class Formats:
    """Numerics by operation, as `formats` of a plan's variant lists them: the key is its ONNX
    nodes, with `@constant` where these have several operations.

    A plan of an artifact whose dimensions shrank names the constants that were made for it; the
    model has those that they were made of, which get the numerics.
    """

    where: str
    by_key: Mapping[str, str] = field(default_factory=dict)

    def of(self, source: str, constant: str) -> str | None:
        """The numerics that an operation gets; None where the plan does not list it."""
        key = f"{source}@{constant}"
        for listed in (self.by_key, self._of_made):
            if key in listed:
                return listed[key]
        return self.by_key.get(source)

    @cached_property
    def _of_made(self) -> dict[str, str]:
        """By names of constants that others were made of."""
        return {_original(key): numerics for key, numerics in self.by_key.items()}

    def check(self, operations: Iterable[tuple[str, str, str]], target: str) -> None:
        """Raise UserError for an entry of no operation, and for one that was not followed.

        operations: nodes, constant and chosen numerics of what was lowered for `target`.
        """
        known = list(operations)
        keys = {key for s, c, _ in known for key in (s, f"{s}@{c}")}
        for key in self.by_key:
            if key not in keys and _original(key) not in keys:
                what = f"{key!r} is no operation of this model that has a choice"
                raise UserError(self.where, what, hint=nearest(key, {s for s, _, _ in known}))
        for source, constant, numerics in known:
            wanted = self.of(source, constant)
            if wanted not in (None, numerics):
                hint = f"`tilewright inspect MODEL --explain {source.split(', ')[0]}`"
                what = f"{source!r} cannot run in {wanted} on {target}"
                raise UserError(self.where, what, "no kernel does that", hint)


def _original(key: str) -> str:
    """The key of an operation before its constant was made smaller."""
    return DERIVED.sub("", key) if "@" in key else key


def read_formats(path: str | Path) -> dict[str, Formats]:
    """By target, the formats in a plan.json or in an artifact's.

    Raises UserError for what cannot be read or is no plan, and for unknown numerics.
    """
    where = str(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                text = archive.read("plan.json")
        else:
            text = Path(path).read_bytes()
        variants = json.loads(text)["variants"]
        read = {name: dict(variant["formats"]) for name, variant in variants.items()}
    except OSError as refusal:
        found = f"the system says: {refusal.strerror or refusal}"
        hint = "give plan.json of an artifact, or the artifact"
        raise UserError(where, "cannot be read", found, hint) from None
    except (KeyError, TypeError, ValueError, AttributeError) as damage:
        found = f"expected variants with formats, found {type(damage).__name__}: {damage}"
        hint = "take plan.json of an artifact that this version compiled"
        raise UserError(where, "is no plan", found, hint) from None
    known = [*SUMS, *formats()]
    for variant in read.values():
        for key, numerics in variant.items():
            if numerics not in known:
                what = f"{key!r}: there is no format {numerics!r}"
                raise UserError(where, what, hint=nearest(str(numerics), known))
    return {name: Formats(where, variant) for name, variant in read.items()}


def for_target(plan: Mapping[str, Formats], target: str) -> Formats:
    """Those of `target`, of the only variant where there is just one. Raises UserError."""
    if target in plan:
        return plan[target]
    if len(plan) != 1:
        where = next((f.where for f in plan.values()), "plan")
        raise UserError(where, f"has no variant {target}", hint=nearest(target, plan))
    return next(iter(plan.values()))


class Planned:
    """A plan as a lowering takes it (`Offers`), without calibration: every operation has the
    numerics that the plan lists, others are exact; weights are rounded to their nearest codes.

    Without a plan everything is offered that an operation could have.
    """

    limits: Squares = ()

    def __init__(self, graph: Graph, wanted: Formats | None = None) -> None:
        self._graph, self._wanted = graph, wanted
        self._sites: dict[tuple[str, str], Site] = {site.key: site for site in sites(graph)}
        self._encoded: dict[tuple[str, str, str], Encoded] = {}

    def permits(self, source: str, constant: str, numerics: str) -> bool:
        """Whether they are those that the plan lists."""
        if self._wanted is None:
            return True
        return numerics == (self._wanted.of(source, constant) or EXACT)

    def formats(self, source: str, constant: str) -> frozenset[str]:
        """The weight format that the plan lists, if it is one that the operation can have."""
        site = self._sites.get((source, constant))
        if site is None:
            return frozenset()
        could = [f for f in formats().values() if f.supports(site.k, site.n)]
        if self._wanted is None:
            return frozenset(f.name for f in could)
        return frozenset(f.name for f in could) & {self._wanted.of(source, constant)}

    def encoded(self, source: str, constant: str, name: str) -> Encoded:
        """The weights of a contraction in a format. Raises UserError where samples decide it and
        a plan lists it."""
        if self._wanted is not None and named(name).calibrated:
            what = f"{source!r}: {name} is fitted to samples"
            raise UserError(self._wanted.where, what, hint="give samples by --calibrate")
        site = rounded_as(self._sites[source, constant], self._sites.values())
        key = (*site.key, name)
        if key not in self._encoded:
            weights = site.weights(self._graph)
            self._encoded[key] = named(name).encode(weights)
        return self._encoded[key]

    def squares(self, source: str, constant: str, numerics: str) -> Squares | None:
        """Nothing is known of errors."""
        return ()

    def lost(self, source: str, constant: str, numerics: str) -> float | None:
        """Nothing is known of errors."""
        return None

    def floor(self, source: str, constant: str, numerics: str) -> Squares | None:
        """Nothing is known of errors."""
        return None

    def basis(self, source: str, constant: str, numerics: str) -> str:
        """Nothing is known of errors."""
        return ""

    def settle(self, choices: Iterable[tuple[str, str, str]]) -> bool:
        """Nothing is known of errors."""
        return False

    def others(self, numerics: str) -> Squares:
        """Nothing is known of errors."""
        return ()
