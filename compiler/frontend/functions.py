"""Operators that are functions: local to the model, or given by a body in the ONNX standard.

The type stubs of onnx lack the function members of OpSchema, hence `_Functions`.
"""

from collections.abc import Sequence
from typing import Protocol, cast

from onnx import FunctionProto, ModelProto, NodeProto, TypeProto
from onnx.defs import OpSchema, SchemaError, get_schema

from tilewright.compiler.frontend.tensors import TO_ONNX
from tilewright.compiler.ir.core import Value


class _Functions(Protocol):
    has_function: bool
    has_context_dependent_function: bool
    function_opset_versions: list[int]
    context_dependent_function_opset_versions: list[int]

    def get_function_with_opset_version(self, version: int) -> FunctionProto | bytes: ...

    def get_context_dependent_function_with_opset_version(
        self, version: int, node: bytes, types: list[bytes]
    ) -> bytes: ...


FunctionKey = tuple[str, str, str]


def local_functions(model: ModelProto) -> dict[FunctionKey, FunctionProto]:
    """The functions of the model by (domain, name, overload)."""
    return {(normal(f.domain), f.name, f.overload): f for f in model.functions}


def normal(domain: str) -> str:
    """The domain with the long name of the default one folded."""
    return "" if domain == "ai.onnx" else domain


def schema_of(domain: str, name: str, version: int) -> OpSchema | None:
    """The standard's schema of an operator under an opset version, or None."""
    try:
        return get_schema(name, version, domain)
    except SchemaError:
        return None


def has_body(schema: OpSchema) -> bool:
    """Whether the standard defines the operator by other operators."""
    functions = cast(_Functions, schema)
    return functions.has_function or functions.has_context_dependent_function


def schema_body(
    schema: OpSchema, node: NodeProto, version: int, inputs: Sequence[Value | None]
) -> FunctionProto | None:
    """The body of an operator of the standard for one node under an opset version."""
    functions = cast(_Functions, schema)
    fitting = [v for v in functions.function_opset_versions if v <= version]
    if fitting:
        data = functions.get_function_with_opset_version(max(fitting))
        return data if isinstance(data, FunctionProto) else FunctionProto.FromString(data)
    if not functions.has_context_dependent_function:
        return None
    versions = [v for v in functions.context_dependent_function_opset_versions if v <= version]
    if not versions:
        return None
    types = [type_proto(v).SerializeToString() for v in inputs]
    body = functions.get_context_dependent_function_with_opset_version(
        max(versions), node.SerializeToString(), types
    )
    return FunctionProto.FromString(body) if body else None


def type_proto(value: Value | None) -> TypeProto:
    """The ONNX type of a value (empty for an omitted one)."""
    out = TypeProto()
    if value is not None:
        out.tensor_type.elem_type = TO_ONNX[value.dtype]
        out.tensor_type.shape.SetInParent()
        for dim in value.shape:
            entry = out.tensor_type.shape.dim.add()
            if isinstance(dim, int):
                entry.dim_value = dim
            else:
                entry.dim_param = str(dim)
    return out
