"""The weights of a model and their structures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tilewright.compiler.formats.inputs import Inputs
from tilewright.compiler.ir.core import Graph
from tilewright.passes.quantization.sites import Multiplied, Site, sites
from tilewright.passes.structure.found import Energy, Found
from tilewright.passes.structure.scan import Scanned, scan
from tilewright.passes.structure.shared import Shared, find_shared

Key = tuple[str, str]


@dataclass(frozen=True, eq=False)
class WeightStructure:
    """A constant that operations read as a matrix W [k, n], and what was found of it.

    names: the ONNX nodes that read it. shared: an earlier weight that it is a multiple of.
    """

    constant: str
    names: tuple[str, ...]
    k: int
    n: int
    scanned: Scanned
    shared: Shared | None

    @property
    def exact(self) -> Found | None:
        """The exact structure that stores the fewest bytes."""
        return self.scanned.best

    @property
    def energy(self) -> Energy | None:
        """The approximate structure that is the furthest below its null model."""
        return self.scanned.nearest

    @property
    def verdict(self) -> str:
        """One of: exact structure, shared, better than chance, none, not looked at."""
        if self.scanned.note:
            return "not looked at"
        if self.scanned.exact:
            return "exact structure"
        if self.shared is not None:
            return "shared"
        near = any(e.better for e in self.scanned.energies)
        return "better than chance" if near else "none"


def model_structure(
    graph: Graph,
    inputs: Mapping[Key, Inputs] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[WeightStructure]:
    """Every f32 constant that contractions, convolutions of one group or lookups read, in order.

    inputs: what calibration saw of the operands, by `Site.key`.
    """
    readers: dict[str, list[Site]] = {}
    for site in sites(graph):
        readers.setdefault(site.constant, []).append(site)
    matrices = {name: found[0].weights(graph) for name, found in readers.items()}
    shared = {s.weight: s for s in find_shared(matrices)}
    made = []
    for name, found in readers.items():
        if progress is not None:
            progress(name)
        seen = None if inputs is None else _inputs(found, inputs)
        w = matrices[name]
        k, n = int(w.shape[0]), int(w.shape[1])
        names = tuple(dict.fromkeys(s.name for s in found))
        made.append(WeightStructure(name, names, k, n, scan(w, seen), shared.get(name)))
    return made


def _inputs(found: list[Site], inputs: Mapping[Key, Inputs]) -> Inputs | None:
    """Of the first reader that multiplies; rows that are looked up have no inputs."""
    for site in found:
        if isinstance(site, Multiplied) and site.key in inputs:
            return inputs[site.key]
    return None
