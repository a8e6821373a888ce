"""Which weight formats lost time where prediction saw a gain."""

from __future__ import annotations

from collections.abc import Mapping

SLOWER = 1.03
"""Ratio of two medians from which on one artifact counts as slower: timing is no better."""


def losing(
    formats: Mapping[str, str], chosen: Mapping[str, float], plain: Mapping[str, float]
) -> frozenset[str]:
    """Formats whose operations together take longer than the same operations without formats; all
    where none does by itself.

    formats: by the ONNX nodes of an operation. chosen, plain: times by nodes, in any one unit.
    """
    with_it: dict[str, float] = {}
    without: dict[str, float] = {}
    for source, made in formats.items():
        with_it[made] = with_it.get(made, 0.0) + chosen.get(source, 0.0)
        without[made] = without.get(made, 0.0) + plain.get(source, 0.0)
    slower = frozenset(made for made in with_it if with_it[made] > without[made])
    return slower or frozenset(with_it)
