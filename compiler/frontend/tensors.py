"""ONNX TensorProto to numpy and to lazily loaded weights, in every element type the IR has."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import SparseTensorProto, TensorProto

from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend.external import ExternalFiles
from tilewright.compiler.ir.types import DType, TensorType
from tilewright.compiler.ir.weights import Weight

BY_ONNX: dict[int, DType] = {
    TensorProto.FLOAT: DType.F32,
    TensorProto.UINT8: DType.U8,
    TensorProto.INT8: DType.I8,
    TensorProto.UINT16: DType.U16,
    TensorProto.INT16: DType.I16,
    TensorProto.INT32: DType.I32,
    TensorProto.INT64: DType.I64,
    TensorProto.BOOL: DType.BOOL,
    TensorProto.FLOAT16: DType.F16,
    TensorProto.DOUBLE: DType.F64,
    TensorProto.UINT32: DType.U32,
    TensorProto.UINT64: DType.U64,
    TensorProto.BFLOAT16: DType.BF16,
    TensorProto.FLOAT8E4M3FN: DType.F8E4M3FN,
    TensorProto.FLOAT8E4M3FNUZ: DType.F8E4M3FNUZ,
    TensorProto.FLOAT8E5M2: DType.F8E5M2,
    TensorProto.FLOAT8E5M2FNUZ: DType.F8E5M2FNUZ,
    TensorProto.FLOAT8E8M0: DType.F8E8M0,
    TensorProto.FLOAT4E2M1: DType.F4E2M1,
    TensorProto.UINT4: DType.U4,
    TensorProto.INT4: DType.I4,
    TensorProto.UINT2: DType.U2,
    TensorProto.INT2: DType.I2,
}
"""The element type of every ONNX one except strings and complex numbers."""
TO_ONNX = {dtype: code for code, dtype in BY_ONNX.items()}

_TYPED: dict[int, str] = {
    TensorProto.FLOAT: "float_data",
    TensorProto.DOUBLE: "double_data",
    TensorProto.INT64: "int64_data",
    TensorProto.UINT64: "uint64_data",
    TensorProto.UINT32: "uint64_data",
}


def element_type(code: int, where: str) -> DType:
    """The element type of an ONNX type code; UserError for strings, complex and unknown ones."""
    if code in BY_ONNX:
        return BY_ONNX[code]
    known = code in TensorProto.DataType.values()
    name = TensorProto.DataType.Name(code).lower() if known else str(code)
    hint = "remove the nodes that use it from the model"
    raise UserError(where, f"element type {name} is not supported", "", hint)


def unpack(raw: np.ndarray, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    """The elements stored in the bytes u8[n] `raw`, sub-byte ones lowest bits first.

    A view of `raw` unless elements are narrower than a byte or bool.
    """
    count = math.prod(shape)
    if dtype.bits < 8:
        per_byte = 8 // dtype.bits
        shifts = np.arange(per_byte, dtype=np.uint8) * dtype.bits
        split = (raw[:, None] >> shifts) & np.uint8((1 << dtype.bits) - 1)
        codes = split.reshape(-1)[:count]
        if dtype == DType.F4E2M1:
            return np.asarray(codes.view(dtype.numpy).reshape(shape))
        values = codes.astype(np.int8)
        if dtype.kind == "int":
            half = 1 << (dtype.bits - 1)
            values = (values ^ half) - half
        return np.asarray(values.astype(dtype.numpy).reshape(shape))
    if dtype == DType.BOOL:
        return np.asarray(raw != 0).reshape(shape)
    if raw.size == 0:
        return np.empty(shape, dtype.numpy)
    return np.frombuffer(raw, dtype.numpy).reshape(shape)


def stored_bytes(dtype: DType, shape: tuple[int, ...]) -> int:
    """Bytes of a dense tensor in ONNX's raw form."""
    return (math.prod(shape) * dtype.bits + 7) // 8


def weight_of(
    tensor: TensorProto, where: str, files: ExternalFiles, raw: np.ndarray | None = None
) -> Weight:
    """The tensor as a weight that decodes when loaded; sizes are checked now.

    `raw`: the bytes of raw_data (u8) when they were left in the model file. Raises UserError when
    the data do not fill the shape, or the element type is not supported.
    """
    dtype = element_type(tensor.data_type, where)
    shape = tuple(tensor.dims)
    if any(d < 0 for d in shape):
        raise UserError(where, "a dimension is negative", f"shape {list(shape)}")
    if tensor.HasField("segment"):
        raise UserError(where, "tensors in segments are not supported")
    size = stored_bytes(dtype, shape)
    if tensor.data_location == TensorProto.EXTERNAL:
        raw = files.bytes_of(tensor, size, where)
    elif raw is None and tensor.HasField("raw_data"):
        _check_size(len(tensor.raw_data), size, dtype, shape, where)
        return _lazy(dtype, shape, lambda: np.frombuffer(tensor.raw_data, np.uint8))
    if raw is not None:
        kept = raw
        _check_size(kept.size, size, dtype, shape, where)
        return _lazy(dtype, shape, lambda: kept)
    name = _TYPED.get(tensor.data_type, "int32_data")
    stored: Any = getattr(tensor, name)
    per_item = 8 // dtype.bits if dtype.bits < 8 else 1
    want = -(-math.prod(shape) // per_item)
    if len(stored) != want:
        found = f"expected {want} entries for {dtype}{list(shape)}, found {len(stored)}"
        raise UserError(where, f"{name} does not fill the tensor", found)
    return Weight(TensorType(dtype, shape), lambda: _frozen(_typed(stored, dtype, shape)))


def dense_weight(sparse: SparseTensorProto, where: str, files: ExternalFiles) -> Weight:
    """A sparse tensor (flat or coordinate indices) as a dense weight; raises UserError."""
    values, indices = weight_of(sparse.values, where, files), array_of(sparse.indices, where, files)
    shape, dtype = tuple(sparse.dims), values.type.dtype
    fits = indices.shape in ((values.type.shape[0],), (values.type.shape[0], len(shape)))
    if any(d < 0 for d in shape) or math.prod(shape) > 1 << 31 or not fits:
        found = f"shape {list(shape)}, values {values.type}, indices {list(indices.shape)}"
        raise UserError(where, "the sparse tensor is not well-formed", found)
    limits = np.array(shape) if indices.ndim == 2 else math.prod(shape)
    if ((indices < 0) | (indices >= limits)).any():
        raise UserError(where, "an index of the sparse tensor is out of range")

    def load() -> np.ndarray:
        out = np.zeros(shape, dtype.numpy)
        where_to = tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, shape)
        out[where_to] = values.load()
        return _frozen(out)

    return Weight(TensorType(dtype, shape), load)


def dense_array(sparse: SparseTensorProto, where: str) -> np.ndarray:
    """The elements of a sparse tensor; raises UserError as `dense_weight`."""
    return dense_weight(sparse, where, ExternalFiles(None)).load()


def array_of(tensor: TensorProto, where: str, files: ExternalFiles) -> np.ndarray:
    """The elements of a tensor; raises UserError as `weight_of`."""
    return weight_of(tensor, where, files).load()


def _typed(stored: Any, dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    if dtype in (DType.F32, DType.F64, DType.I64, DType.U64, DType.U32, DType.I32):
        return np.array(stored, dtype.numpy).reshape(shape)
    codes = np.array(stored, np.int64)
    if dtype.bits < 8:
        return unpack(codes.astype(np.uint8), dtype, shape)
    if dtype == DType.BOOL:
        return np.asarray(codes != 0).reshape(shape)
    width = np.uint8 if dtype.bits == 8 else np.uint16
    return np.asarray(codes.astype(width).view(dtype.numpy).reshape(shape))


def _lazy(dtype: DType, shape: tuple[int, ...], raw: Callable[[], np.ndarray]) -> Weight:
    return Weight(TensorType(dtype, shape), lambda: _frozen(unpack(raw(), dtype, shape)))


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _check_size(have: int, want: int, dtype: DType, shape: tuple[int, ...], where: str) -> None:
    if have != want:
        found = f"{dtype}{list(shape)} takes {want} bytes, the model holds {have}"
        hint = "export the model again, it may be truncated"
        raise UserError(where, "the tensor's data do not fill its shape", found, hint)
