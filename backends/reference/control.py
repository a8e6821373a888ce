"""Control flow, fused regions, guards, data-dependent sizes, and the table of custom kinds."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tilewright.backends.reference.interpreter import Array, Context, DataError, reference
from tilewright.compiler.ir.dims import symbols
from tilewright.compiler.ir.ops import control


@reference(control.If)
def _if(op: control.If, at: Context, condition: Array) -> list[Array]:
    return at.region(op.then_body if condition.reshape(()) else op.else_body, ())


@reference(control.Loop)
def _loop(
    op: control.Loop,
    at: Context,
    condition: Array | None,
    carried: tuple[Array, ...],
    scanned: tuple[Array, ...],
) -> list[Array]:
    going = condition is None or bool(condition.reshape(()))
    limit = None if op.trips is None else at.size(op.trips)
    state, count = list(carried), len(carried)
    pieces: list[list[Array]] = [[] for _ in op.stack_axes]
    step = 0
    while going and (limit is None or step < limit):
        slices = []
        for x, axis, reverse in zip(scanned, op.scan_axes, op.scan_reverse, strict=True):
            slices.append(np.take(x, x.shape[axis] - 1 - step if reverse else step, axis))
        results = at.region(op.body, [np.asarray(step, np.int64), *state, *slices])
        going = bool(results[0].reshape(()))
        state = results[1 : 1 + count]
        for stack, piece in zip(pieces, results[1 + count :], strict=True):
            stack.append(piece)
        step += 1
    out = list(state)
    for index, (axis, reverse) in enumerate(zip(op.stack_axes, op.stack_reverse, strict=True)):
        found = pieces[index][::-1] if reverse else pieces[index]
        if found:
            out.append(np.stack(found, axis))
            continue
        # No iteration ran, so data symbols of the piece were never set: nothing is 0 long.
        form = op.body.results[1 + count + index].type
        at.env.update(dict.fromkeys(_unset(at, form.shape), 0))
        shape = list(at.shape(form.shape))
        shape.insert(axis, 0)
        out.append(np.zeros(shape, at.carrier(form.dtype)))
    return out


def _unset(at: Context, dims: tuple[Any, ...]) -> set[str]:
    return {name for d in dims for name in symbols(d)} - at.env.keys()


@reference(control.Fused)
def _fused(op: control.Fused, at: Context, inputs: tuple[Array, ...]) -> list[Array]:
    return at.region(op.body, inputs)


@reference(control.Guard)
def _guard(op: control.Guard, at: Context, x: Array, condition: Array) -> Array:
    if not np.all(condition):
        raise DataError(op.message)
    return x


@reference(control.NonZero)
def _non_zero(op: control.NonZero, at: Context, x: Array) -> Array:
    zero = x.astype(np.float64) == 0 if op.x.dtype.is_float else x == x.dtype.type(0)
    if x.ndim == 0:
        return np.zeros((0, int(not zero)), np.int64)
    return np.stack(np.nonzero(~zero)).astype(np.int64)


@reference(control.Compress)
def _compress(op: control.Compress, at: Context, x: Array, condition: Array) -> Array:
    return np.take(x, np.flatnonzero(condition[: x.shape[op.axis]]), op.axis)


KINDS: dict[str, Callable[..., Any]] = {}
"""The function of every kind of `custom`: f(op, context, params as keywords, inputs...)."""


def custom_kind(kind: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare the function that defines `custom` operations of `kind`.

    It is called with the operation, the context and the inputs, and `op.params` as keywords.
    """

    def declare(function: Callable[..., Any]) -> Callable[..., Any]:
        assert kind not in KINDS, f"custom kind {kind!r} is defined twice"
        KINDS[kind] = function
        return function

    return declare


@reference(control.Custom)
def _custom(op: control.Custom, at: Context, inputs: tuple[Array, ...]) -> Any:
    assert op.kind in KINDS, f"custom kind {op.kind!r} is not defined; known: {sorted(KINDS)}"
    return KINDS[op.kind](op, at, *inputs, **dict(op.params))
