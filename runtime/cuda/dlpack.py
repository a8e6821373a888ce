"""Arrays on a device that other libraries made, and ours for other libraries.

Both protocols: DLPack (PyTorch, JAX, CuPy) and `__cuda_array_interface__` (CuPy, Numba).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

CUDA_DEVICE, CUDA_MANAGED = 2, 13
_DEVICES = (CUDA_DEVICE, CUDA_MANAGED)
_NAME = b"dltensor"
_INTEGER, _UNSIGNED, _FLOAT, _BFLOAT, _BOOL = 0, 1, 2, 4, 6
_CODES = {"i": _INTEGER, "u": _UNSIGNED, "f": _FLOAT, "bf": _BFLOAT, "bool": _BOOL}
"""DLDataTypeCode by how names of element types begin."""


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("index", ctypes.c_int32))


class _DataType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("rank", ctypes.c_int32),
        ("dtype", _DataType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    _fields_ = (
        ("tensor", _Tensor),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    )


def _python(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function: Any = ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))
    return function  # type: ignore[no-any-return]


_pointer = _python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
_valid_at = _python("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_pointer_at = _python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_new = _python("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


@dataclass(frozen=True)
class View:
    """The memory of a device's array that somebody else made: `owner` keeps it.

    dtype: names of element types that it may be (numpy has none for bf16, so its bits go as u16).
    strides: in elements, None where it is C-contiguous for sure.
    """

    array: Any
    owner: object
    address: int
    device: int
    dtypes: tuple[str, ...]
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None
    read_only: bool = False
    stream: int | None = None
    """Where work on it may be queued that is still to be waited for."""

    @property
    def contiguous(self) -> bool:
        """Whether its elements lie one after the other in C order."""
        if self.strides is None or prod(self.shape) == 0:
            return True
        step = 1
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step:
                return False
            step *= size
        return True


def view(array: Any, stream: int) -> View | None:
    """What an array of a device is, None if it is not one. `stream` waits for work that DLPack's
    producers have queued for it."""
    where = getattr(array, "__dlpack_device__", None)
    if where is not None:
        kind, index = where()
        return _from_dlpack(array, int(index), stream) if int(kind) in _DEVICES else None
    interface = getattr(array, "__cuda_array_interface__", None)
    return None if interface is None else _from_interface(array, interface)


def _from_dlpack(array: Any, index: int, stream: int) -> View:
    capsule = array.__dlpack__(stream=stream)
    # The capsule keeps its name, so that it frees the tensor itself when it goes.
    tensor = _Managed.from_address(_pointer(capsule, _NAME)).tensor
    rank, dtype = tensor.rank, tensor.dtype
    strides = tuple(tensor.strides[:rank]) if tensor.strides else None
    names = {code: name for name, code in _CODES.items()}
    base = names.get(dtype.code, "?")
    name = base if base == "bool" else f"{base}{dtype.bits * dtype.lanes}"
    return View(
        array,
        (array, capsule),
        (tensor.data or 0) + tensor.offset,
        index,
        (name,),
        tuple(tensor.shape[:rank]),
        strides,
    )


def _from_interface(array: Any, interface: dict[str, Any]) -> View:
    address, read_only = interface["data"]
    dtype = np.dtype(interface["typestr"])
    names = {"i": "i", "u": "u", "f": "f"}
    found = "bool" if dtype.kind == "b" else f"{names.get(dtype.kind, '?')}{dtype.itemsize * 8}"
    also = ("bf16",) if found == "u16" else ()
    strides = interface.get("strides")
    return View(
        array,
        array,
        int(address),
        -1,
        (found, *also),
        tuple(interface["shape"]),
        None if strides is None else tuple(s // dtype.itemsize for s in strides),
        bool(read_only),
        interface.get("stream"),
    )


_exported: dict[int, tuple[object, ...]] = {}
"""What keeps exported memory: by address of its DLManagedTensor."""


def _forget(managed: int) -> None:
    _exported.pop(managed, None)


def _destroy(capsule: int) -> None:
    # A consumer renames the capsule and calls the deleter itself.
    if _valid_at(capsule, _NAME):
        _forget(_pointer_at(capsule, _NAME))


_deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_forget)
_destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_destroy)


def capsule(owner: object, address: int, device: int, dtype: str, shape: tuple[int, ...]) -> Any:
    """A DLPack capsule of contiguous memory that `owner` keeps. dtype: name of an element type."""
    sizes = (ctypes.c_int64 * max(1, len(shape)))(*shape)
    code, bits = _type(dtype)
    tensor = _Tensor(
        address,
        _Device(CUDA_DEVICE, device),
        len(shape),
        _DataType(code, bits, 1),
        ctypes.cast(sizes, ctypes.POINTER(ctypes.c_int64)),
        None,
        0,
    )
    managed = _Managed(tensor, None, ctypes.cast(_deleter, ctypes.c_void_p))
    at = ctypes.addressof(managed)
    _exported[at] = (managed, sizes, owner)
    return _new(at, _NAME, ctypes.cast(_destructor, ctypes.c_void_p))


def _type(dtype: str) -> tuple[int, int]:
    """DLPack's code and bits of an element type; what it has no type for goes by its bits."""
    if dtype == "bool":
        return _BOOL, 8
    if dtype == "bf16":
        return _BFLOAT, 16
    kind, bits = dtype[0], dtype[1:]
    if bits in ("8", "16", "32", "64"):
        return _CODES[kind], int(bits)
    return (_INTEGER if kind == "i" else _UNSIGNED), 8
