"""Checks arrays against the inputs of a manifest before any native code sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tilewright.runtime.dtypes import ELEMENT_TYPES, accepted_dtypes
from tilewright.runtime.errors import FeedError, nearest
from tilewright.runtime.expressions import ExpressionError, evaluate
from tilewright.runtime.manifest import Manifest, TensorInfo

Array = np.ndarray[Any, Any]

_SEE_INPUTS = "see get_inputs() for names, types and shapes"


def check_names(where: str, tensors: Sequence[TensorInfo], feeds: Mapping[str, Any]) -> None:
    """Every input is given and no other name; FeedError otherwise."""
    if not isinstance(feeds, Mapping):
        raise FeedError(
            where,
            "the feeds are not a mapping",
            f"expected a dict from input names to arrays, found {type(feeds).__name__}",
            "run(None, {'name': array})",
        )
    names = [tensor.name for tensor in tensors]
    for name in feeds:
        if name not in names:
            raise FeedError(
                where, f"unknown input {name!r}", nearest(str(name), names), _SEE_INPUTS
            )
    missing = [name for name in names if name not in feeds]
    if missing:
        given = ", ".join(repr(name) for name in feeds) or "nothing"
        raise FeedError(
            where,
            f"input {missing[0]!r} is missing",
            f"the model has {len(names)} inputs, the feeds have {given}",
            _SEE_INPUTS,
        )


def check_array(where: str, tensor: TensorInfo, value: Any) -> Array:
    """`value` as an array of the tensor's type and rank; copied only when it is not contiguous."""
    place = f"{where}: input {tensor.name!r}"
    accepted = accepted_dtypes(tensor.dtype)
    if not isinstance(value, np.ndarray | np.generic):
        raise FeedError(
            place,
            "not a numpy array",
            f"expected an array of {accepted[0]}, found {type(value).__name__}",
            f"numpy.asarray(value, dtype={str(accepted[0])!r})",
        )
    array = np.asarray(value)
    check_type(place, tensor, array)
    limits = ELEMENT_TYPES[tensor.dtype].limits
    if limits is not None and array.size:
        plain = array if array.dtype in (np.int8, np.uint8) else array.astype(np.int8)
        low, high = int(plain.min()), int(plain.max())
        if low < limits[0] or high > limits[1]:
            raise FeedError(
                place,
                f"values do not fit {tensor.dtype}",
                f"expected {limits[0]} to {limits[1]}, found {low} to {high}",
                "clip the array",
            )
    if not (array.flags.c_contiguous and array.flags.aligned):
        array = array.copy(order="C")
    return array


def check_type(place: str, tensor: TensorInfo, array: Array) -> None:
    """FeedError unless dtype, rank and the constant sizes are the tensor's."""
    accepted = accepted_dtypes(tensor.dtype)
    if array.dtype not in accepted:
        raise FeedError(
            place,
            "wrong element type",
            f"expected {accepted[0]}, found {array.dtype}",
            f"array.astype({str(accepted[0])!r})",
        )
    if array.ndim != len(tensor.shape):
        raise FeedError(
            place,
            "wrong number of dimensions",
            f"expected {len(tensor.shape)}, {describe_shape(tensor.shape)}; "
            f"found {array.ndim}, {array.shape}",
            "reshape the array",
        )
    for axis, (wanted, size) in enumerate(zip(tensor.shape, array.shape, strict=True)):
        if isinstance(wanted, int) and size != wanted:
            raise FeedError(
                place,
                f"wrong size of axis {axis}",
                f"expected {wanted}, in shape {describe_shape(tensor.shape)}; "
                f"found {size}, in shape {array.shape}",
                "reshape or pad the array",
            )


def resolve_dims(where: str, manifest: Manifest, shapes: Sequence[Sequence[int]]) -> dict[str, int]:
    """Values of the symbolic dims that inputs of these shapes give.

    Raises FeedError when a dim has two values, lies outside of its bounds, or when an axis that is
    an expression has another size. An expression over a name that no axis gives is left to the
    model's own check.
    """
    values: dict[str, int] = {}
    origins: dict[str, str] = {}
    derived: list[tuple[str, str, int]] = []
    for tensor, shape in zip(manifest.inputs, shapes, strict=True):
        for axis, (wanted, size) in enumerate(zip(tensor.shape, shape, strict=True)):
            if isinstance(wanted, int):
                continue
            origin = f"axis {axis} of input {tensor.name!r}"
            if not wanted.isidentifier() and wanted not in manifest.dims:
                derived.append((wanted, origin, size))
            elif values.setdefault(wanted, size) != size:
                raise FeedError(
                    where,
                    f"dimension {wanted!r} has two sizes",
                    f"{origins[wanted]} has {values[wanted]}, {origin} has {size}",
                    "give inputs of one common size",
                )
            origins.setdefault(wanted, origin)
    for name, size in values.items():
        low, high = manifest.dims.get(name, (0, None))
        if size < low or (high is not None and size > high):
            bounds = f"{low} to {high}" if high is not None else f"at least {low}"
            raise FeedError(
                where,
                f"dimension {name!r} is out of bounds",
                f"expected {bounds}, found {size}, {origins[name]}",
                "give smaller or larger inputs, or compile with other bounds",
            )
    for text, origin, size in derived:
        try:
            expected = evaluate(text, values)
        except ExpressionError:
            continue
        if expected != size:
            known = ", ".join(f"{name} = {value}" for name, value in sorted(values.items()))
            raise FeedError(
                where,
                f"{origin} has the wrong size",
                f"expected {text} = {expected} (with {known}), found {size}",
                "give inputs whose sizes fit each other",
            )
    return values


def describe_shape(shape: Sequence[int | str]) -> str:
    """`(1, seq)`: the shape as numpy prints one."""
    inside = ", ".join(str(dim) for dim in shape)
    return f"({inside},)" if len(shape) == 1 else f"({inside})"
