"""What the ONNX standard says about a node's operands, and about a model that failed to import."""

from typing import Any

from onnx import ModelProto, NodeProto, shape_inference
from onnx.defs import OpSchema

from tilewright.compiler.errors import UserError


def check_operands(schema: OpSchema, node: NodeProto, where: str) -> None:
    """Refuse a node with too few or too many operands or results, or without a required one."""
    given = len(node.input)
    if not schema.min_input <= given <= schema.max_input:
        found = f"expected {schema.min_input} to {schema.max_input}, found {given}"
        raise UserError(where, "wrong number of inputs", found)
    if len(node.output) > schema.max_output:
        found = f"expected at most {schema.max_output}, found {len(node.output)}"
        raise UserError(where, "wrong number of outputs", found)
    for formal, name in zip(schema.inputs, node.input, strict=False):
        if not name and formal.option == OpSchema.FormalParameterOption.Single:
            raise UserError(where, f"the required input {formal.name!r} is omitted")
    for name, spec in schema.attributes.items():
        found_type = next((a.type for a in node.attribute if a.name == name), None)
        if spec.required and found_type is None:
            raise UserError(where, f"the required attribute {name!r} is missing")
        wanted: Any = spec.type  # an enum whose type stub lacks its integer value
        if found_type is not None and found_type != int(wanted):
            raise UserError(
                where, f"the attribute {name!r} has the wrong type", f"type {found_type}"
            )


def complaint(model: ModelProto) -> str | None:
    """What ONNX's own strict type and shape inference says against a model, or None."""
    try:
        shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except (shape_inference.InferenceError, RuntimeError, ValueError) as error:
        return str(error).strip().splitlines()[0][:300]
    return None
