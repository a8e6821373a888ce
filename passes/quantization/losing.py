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

    formats: by the ONNX nodes of an operation. chosen, plain: times by nodes, in any one unit; of
    a launch of several operations each has the part of its nodes.
    """
    with_it: dict[str, float] = {}
    without: dict[str, float] = {}
    for source, made in formats.items():
        with_it[made] = with_it.get(made, 0.0) + _time(source, chosen)
        without[made] = without.get(made, 0.0) + _time(source, plain)
    slower = frozenset(made for made in with_it if with_it[made] > without[made])
    return slower or frozenset(with_it)


def _time(source: str, times: Mapping[str, float]) -> float:
    if source in times:
        return times[source]
    nodes = set(source.split(", "))
    launches = ((set(name.split(", ")), time) for name, time in times.items())
    return sum(len(nodes) / len(every) * time for every, time in launches if nodes < every)
