"""Execution order of a block of nodes: operands first, the file's order otherwise."""

from collections.abc import Callable, Iterator, Sequence

import networkx as nx
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
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(nodes)))
    for i, node in enumerate(nodes):
        for name in set(used_names(node)):
            if name in producer:
                graph.add_edge(producer[name], i)
            elif name in node.input and not exists(name):
                found = f"the node is {label(node)}"
                raise UserError(where, f"the operand {name!r} does not exist", found)
    try:
        return [nodes[i] for i in nx.lexicographical_topological_sort(graph)]
    except nx.NetworkXUnfeasible:
        cycle = sorted(i for i, _ in nx.find_cycle(graph))
        more = ", ..." if len(cycle) > 5 else ""
        names = ", ".join(label(nodes[i]) for i in cycle[:5])
        raise UserError(where, "the graph has a cycle", f"nodes: {names}{more}") from None


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
