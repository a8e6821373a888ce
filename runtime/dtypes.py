"""Element types of inputs and outputs: their names, numpy dtypes and onnxruntime type strings.

numpy has no bfloat16, float8 or sub-byte integers. Where ml_dtypes is installed its types are used;
otherwise the bits go through uint16 and uint8 arrays. Sub-byte integers are exposed unpacked, one
element per byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ElementType:
    """`name` as in the manifest; `storage` is the numpy dtype of the same width.

    `extended` names the ml_dtypes type; `limits` are the values a sub-byte integer may have.
    """

    name: str
    storage: str
    onnx: str
    extended: str = ""
    limits: tuple[int, int] | None = None

    @property
    def bytes(self) -> int:
        """Bytes of one element in a tensor that the model reads or writes."""
        return np.dtype(self.storage).itemsize


ELEMENT_TYPES = {
    element.name: element
    for element in (
        ElementType("f32", "float32", "float"),
        ElementType("f64", "float64", "double"),
        ElementType("f16", "float16", "float16"),
        ElementType("bf16", "uint16", "bfloat16", "bfloat16"),
        ElementType("f8e4m3fn", "uint8", "float8e4m3fn", "float8_e4m3fn"),
        ElementType("f8e4m3fnuz", "uint8", "float8e4m3fnuz", "float8_e4m3fnuz"),
        ElementType("f8e5m2", "uint8", "float8e5m2", "float8_e5m2"),
        ElementType("f8e5m2fnuz", "uint8", "float8e5m2fnuz", "float8_e5m2fnuz"),
        ElementType("f8e8m0", "uint8", "float8e8m0", "float8_e8m0fnu"),
        ElementType("f4e2m1", "uint8", "float4e2m1", "float4_e2m1fn"),
        ElementType("i8", "int8", "int8"),
        ElementType("i16", "int16", "int16"),
        ElementType("i32", "int32", "int32"),
        ElementType("i64", "int64", "int64"),
        ElementType("u8", "uint8", "uint8"),
        ElementType("u16", "uint16", "uint16"),
        ElementType("u32", "uint32", "uint32"),
        ElementType("u64", "uint64", "uint64"),
        ElementType("bool", "bool", "bool"),
        ElementType("i4", "int8", "int4", "int4", (-8, 7)),
        ElementType("u4", "uint8", "uint4", "uint4", (0, 15)),
        ElementType("i2", "int8", "int2", "int2", (-2, 1)),
        ElementType("u2", "uint8", "uint2", "uint2", (0, 3)),
    )
}


@cache
def array_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype that outputs of element type `name` have on this machine."""
    element = ELEMENT_TYPES[name]
    if element.extended:
        try:
            module = import_module("ml_dtypes")
        except ModuleNotFoundError:
            return np.dtype(element.storage)
        extended: np.dtype[Any] = np.dtype(getattr(module, element.extended))
        return extended
    return np.dtype(element.storage)


@cache
def accepted_dtypes(name: str) -> tuple[np.dtype[Any], ...]:
    """The numpy dtypes that a feed of element type `name` may have."""
    storage = np.dtype(ELEMENT_TYPES[name].storage)
    return tuple(dict.fromkeys((array_dtype(name), storage)))
