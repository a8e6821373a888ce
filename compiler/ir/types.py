"""Element types and tensor types."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from tilewright.compiler.ir.dims import Dim, Shape, product


class DType(Enum):
    """An element type; `bits` is its storage width in a packed tensor."""

    F64 = "f64", 64, "float"
    F32 = "f32", 32, "float"
    F16 = "f16", 16, "float"
    BF16 = "bf16", 16, "float"
    F8E4M3FN = "f8e4m3fn", 8, "float"
    F8E4M3FNUZ = "f8e4m3fnuz", 8, "float"
    F8E5M2 = "f8e5m2", 8, "float"
    F8E5M2FNUZ = "f8e5m2fnuz", 8, "float"
    F8E8M0 = "f8e8m0", 8, "float"
    F4E2M1 = "f4e2m1", 4, "float"
    I64 = "i64", 64, "int"
    I32 = "i32", 32, "int"
    I16 = "i16", 16, "int"
    I8 = "i8", 8, "int"
    I4 = "i4", 4, "int"
    I2 = "i2", 2, "int"
    U64 = "u64", 64, "uint"
    U32 = "u32", 32, "uint"
    U16 = "u16", 16, "uint"
    U8 = "u8", 8, "uint"
    U4 = "u4", 4, "uint"
    U2 = "u2", 2, "uint"
    B1 = "b1", 1, "uint"
    BOOL = "bool", 8, "bool"

    def __init__(self, label: str, bits: int, kind: str) -> None:
        self.label, self.bits, self.kind = label, bits, kind

    def __str__(self) -> str:
        return self.label

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_int(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def numpy(self) -> np.dtype:
        """The numpy dtype that holds one unpacked element (ml_dtypes for the narrow ones)."""
        name = _NUMPY.get(self.label)
        if name is not None:
            return np.dtype(name)
        import ml_dtypes  # only the narrow types need it

        narrow: np.dtype = np.dtype(getattr(ml_dtypes, _ML_DTYPES[self.label]))
        return narrow


_NUMPY = {
    "f64": "float64", "f32": "float32", "f16": "float16", "i64": "int64", "i32": "int32",
    "i16": "int16", "i8": "int8", "u64": "uint64", "u32": "uint32", "u16": "uint16",
    "u8": "uint8", "bool": "bool", "b1": "uint8",
}  # fmt: skip
_ML_DTYPES = {
    "bf16": "bfloat16", "f8e4m3fn": "float8_e4m3fn", "f8e4m3fnuz": "float8_e4m3fnuz",
    "f8e5m2": "float8_e5m2", "f8e5m2fnuz": "float8_e5m2fnuz", "f8e8m0": "float8_e8m0fnu",
    "f4e2m1": "float4_e2m1fn", "i4": "int4", "u4": "uint4", "i2": "int2", "u2": "uint2",
}  # fmt: skip

BY_LABEL = {dtype.label: dtype for dtype in DType}
_BY_NUMPY = {np.dtype(name): BY_LABEL[label] for label, name in _NUMPY.items() if label != "b1"}


def from_numpy(dtype: np.dtype) -> DType:
    """The element type of a numpy (or ml_dtypes) dtype; KeyError if there is none."""
    if dtype in _BY_NUMPY:
        return _BY_NUMPY[dtype]
    by_name = {name: label for label, name in _ML_DTYPES.items()}
    return BY_LABEL[by_name[dtype.name]]


@dataclass(frozen=True)
class TensorType:
    """An element type and a shape of known or symbolic dimensions, e.g. `f32[batch, 384]`."""

    dtype: DType
    shape: Shape

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def elements(self) -> Dim:
        """The number of elements."""
        return product(self.shape)

    @property
    def bytes(self) -> Dim:
        """Bytes of a dense tensor with sub-byte elements packed."""
        bits = self.elements * self.dtype.bits
        return (bits + 7) // 8 if self.dtype.bits < 8 else self.elements * (self.dtype.bits // 8)
