"""ONNX attributes as python values."""

from collections.abc import Mapping
from typing import Any

from onnx import AttributeProto, NodeProto
from onnx.defs import OpSchema

from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.external import ExternalFiles
from tilewright.compiler.frontend.tensors import array_of

Bindings = Mapping[str, AttributeProto]
"""The attributes of a function call, which nodes of its body refer to by ref_attr_name."""


def bind(node: NodeProto, bindings: Bindings) -> NodeProto:
    """The node with references to the attributes of the enclosing call resolved."""
    if not any(a.ref_attr_name for a in node.attribute):
        return node
    out = NodeProto()
    out.CopyFrom(node)
    del out.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            out.attribute.append(attribute)
        elif attribute.ref_attr_name in bindings:
            made = out.attribute.add()
            made.CopyFrom(bindings[attribute.ref_attr_name])
            made.name = attribute.name
    return out


def decode(
    node: NodeProto, schema: OpSchema | None, files: ExternalFiles, where: str
) -> dict[str, Any]:
    """Every attribute of `node` as a python value, with the schema's defaults for absent ones."""
    out: dict[str, Any] = {}
    if schema is not None:
        for name, spec in schema.attributes.items():
            if spec.default_value.type != AttributeProto.UNDEFINED:
                out[name] = value_of(spec.default_value, files, where)
    for attribute in node.attribute:
        out[attribute.name] = value_of(attribute, files, where)
    return out


def value_of(attribute: AttributeProto, files: ExternalFiles, where: str) -> Any:
    """int, float, str, a numpy array, a GraphProto, or a tuple of those."""
    place = f"{where}, attribute {attribute.name!r}"
    match attribute.type:
        case AttributeProto.INT:
            return attribute.i
        case AttributeProto.FLOAT:
            return attribute.f
        case AttributeProto.STRING:
            return _text(attribute.s, place)
        case AttributeProto.TENSOR:
            return array_of(attribute.t, place, files)
        case AttributeProto.GRAPH:
            return attribute.g
        case AttributeProto.INTS:
            return tuple(attribute.ints)
        case AttributeProto.FLOATS:
            return tuple(attribute.floats)
        case AttributeProto.STRINGS:
            return tuple(_text(s, place) for s in attribute.strings)
        case AttributeProto.TENSORS:
            return tuple(array_of(t, place, files) for t in attribute.tensors)
        case AttributeProto.GRAPHS:
            return tuple(attribute.graphs)
        case AttributeProto.SPARSE_TENSOR:
            return attribute.sparse_tensor
        case AttributeProto.TYPE_PROTO:
            return attribute.tp
    raise UserError(place, "the attribute has no known type", f"type {attribute.type}")


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise UserError(where, "the attribute is not UTF-8 text") from None
