"""Execution order of a block of nodes: operands first, the file's order otherwise."""

import heapq
from collections.abc import Callable, Iterator, Sequence

from onnx import AttributeProto, GraphProto, NodeProto

from tilewright.compiler.errors import UserError


def sorted_nodes(
    nodes: Sequence[NodeProto], exists: Callable[[str], bool], where: str
) -> list[NodeProto]:
    """`nodes` in an order where operands come first, as close to the given order as possible.

    `exists` tells the names that the block starts with. Raises UserError for a name that is
    computed twice, or never, and for a cycle.
    """
    producer: dict[str, int] = {}
    for i, node in enumerate(nodes):
        for name in node.output:
            if not name:
                continue
            if name in producer:
                found = f"by {label(nodes[producer[name]])} and {label(node)}"
                raise UserError(where, f"the value {name!r} is computed twice", found)
            producer[name] = i
    waiting = [0] * len(nodes)
    users: list[list[int]] = [[] for _ in nodes]
    for i, node in enumerate(nodes):
        needs: set[int] = set()
        for name in set(used_names(node)):
            if name in producer:
                needs.add(producer[name])
            elif name in node.input and not exists(name):
                found = f"the node is {label(node)}"
                raise UserError(where, f"the operand {name!r} does not exist", found)
        waiting[i] = len(needs)
        for j in needs:
            users[j].append(i)
    ready = [i for i, count in enumerate(waiting) if count == 0]
    heapq.heapify(ready)
    order: list[int] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for j in users[i]:
            waiting[j] -= 1
            if waiting[j] == 0:
                heapq.heappush(ready, j)
    if len(order) < len(nodes):
        stuck = [label(nodes[i]) for i, count in enumerate(waiting) if count]
        more = ", ..." if len(stuck) > 5 else ""
        found = f"nodes: {', '.join(stuck[:5])}{more}"
        raise UserError(where, "the graph has a cycle", found)
    return [nodes[i] for i in order]


def used_names(node: NodeProto) -> Iterator[str]:
    """The values that a node reads, those that its subgraphs capture included."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        yield from _captured(graph)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs in the attributes of a node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def _captured(graph: GraphProto) -> Iterator[str]:
    inside = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    for node in graph.node:
        inside.update(node.output)
    for node in graph.node:
        yield from (name for name in used_names(node) if name not in inside)
    yield from (o.name for o in graph.output if o.name not in inside)


def label(node: NodeProto) -> str:
    """A name for messages."""
    name = node.name or next((o for o in node.output if o), "")
    return f"{name!r} ({node.op_type})"
