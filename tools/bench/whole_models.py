"""Structures that a model has as a whole, at a number of bytes for all of its products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tilewright.compiler.formats import Inputs
from tilewright.compiler.formats.integers import Integers
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.ops.nn import LayerNorm, RmsNorm
from tilewright.passes.quantization.sites import Lookup, Product, Site, sites
from tilewright.passes.shrinking.elimination import Elimination
from tilewright.passes.structure.channels import hidden_channels

CODES = Integers(8, 64)
"""Of what is left, where bytes are fewer than those of half of the weights in bf16."""


@dataclass(frozen=True, eq=False)
class Replaced:
    """Weights [K, N] by product, tables [rows, K] by name where they are looked up, bytes of all
    products, what is particular."""

    weights: Mapping[str, np.ndarray]
    bytes: int
    how: str
    tables: Mapping[str, np.ndarray] = field(default_factory=dict)


def value_bits(found: Sequence[Product], size: int) -> float:
    """Bits of a value: 16, or those of `CODES` where bytes are few."""
    elements = sum(site.k * site.n for site in found)
    if 8 * size > 8.5 * elements:
        return 16.0
    return 8 * sum(CODES.bytes(site.k, site.n) for site in found) / elements


def slicing(
    graph: Graph,
    recognized: Graph,
    every: Sequence[Site],
    found: Sequence[Product],
    inputs: Mapping[str, Inputs],
    size: int,
) -> Replaced | None:
    """Fewer dimensions of the residual stream: one rotation for all layers, by the energies of what
    its normalizations give, so that shortcuts need no product (SliceGPT, arXiv 2401.15024).

    Projecting what is added to the stream onto the dimensions that are kept is the same as slicing:
    RMS norms of it are those of the sliced ones, up to a factor that goes into their scales. None
    where there are other normalizations than by RMS: with scales before a shortcut nothing commutes
    with the rotation. recognized: the graph before fusing. every: all sites, of which ``found``
    are to be smaller.
    """
    if any(isinstance(op, LayerNorm) for op in recognized.ops):
        return None
    norms = {site.constant: site.x.op for site in sites(recognized) if isinstance(site, Product)}
    gram: np.ndarray | float = 0.0
    for reader in every:
        norm = norms.get(reader.constant)
        if isinstance(reader, Product) and isinstance(norm, RmsNorm):
            scale = np.ones(reader.k)
            if norm.scale is not None and isinstance(norm.scale.op, Constant):
                scale = recognized.weights.array(norm.scale.op.name).reshape(-1).astype(np.float64)
            seen = inputs[reader.name].gram / np.outer(scale, scale)
            gram = gram + seen / np.trace(seen)
    if isinstance(gram, float):
        return None
    width = len(gram)
    kept = int(8 * size * width / (value_bits(found, size) * sum(s.k * s.n for s in found)))
    basis = np.linalg.eigh(gram)[1][:, ::-1][:, :kept]
    projection = basis @ basis.T
    weights = {
        site.name: (site.weights(graph) @ projection).astype(np.float32)
        for site in found
        if site.n == width and _adds(site)
    }
    tables = {
        site.constant: (site.weights(graph).T @ projection).astype(np.float32)
        for site in every
        if isinstance(site, Lookup) and site.k == width
    }
    return Replaced(weights, size, f"{kept} of {width} dimensions", tables)


def hidden(
    graph: Graph, found: Sequence[Product], inputs: Mapping[str, Inputs], size: int
) -> Replaced | None:
    """Fewer hidden channels of every feed-forward part, the same share of each, with weights of the
    product that reads them that make up for the others (MoDeGPT's Nystrom step, arXiv 2408.09632);
    all that is left in bf16 or in codes.

    A channel without a row in that product is the same as none. graph: before fusing.
    """
    by_constant = {site.constant: site for site in found}
    groups = [c for c in hidden_channels(graph) if c.weight in by_constant]
    constants = {name for c in groups for name in _constants(c.products)}
    bits = value_bits(found, size)
    smaller = sum(s.k * s.n for s in found if s.constant in constants)
    others = sum(s.k * s.n for s in found) - smaller
    share = (8 * size / bits - others) / max(smaller, 1)
    if not 0 < share < 1:
        return None
    weights: dict[str, np.ndarray] = {}
    for site in found:
        if bits < 16:
            w = np.ascontiguousarray(site.weights(graph))
            weights[site.name] = CODES.decode(CODES.encode(w, inputs[site.name]))
    for channels in groups:
        site = by_constant[channels.weight]
        state = Elimination(inputs[site.name].gram, site.weights(graph)[None])
        state.drop(site.k - int(share * site.k))
        made = state.weights[0]
        whole = np.zeros((site.k, site.n), np.float32)
        whole[state.left] = made if bits == 16 else CODES.decode(CODES.encode(made))
        weights[site.name] = whole
    return Replaced(weights, size, f"{share:.0%} of the channels")


def _adds(site: Product) -> bool:
    """Whether what it makes is added to something of its shape: it writes into a stream."""
    op = site.op
    return isinstance(op, Contract) and any(e.shape == op.out.shape for e in op.extras)


def _constants(products: Sequence[object]) -> set[str]:
    operands = (getattr(op, name, None) for op in products for name in ("a", "b", "w"))
    return {v.op.name for v in operands if v is not None and isinstance(v.op, Constant)}
