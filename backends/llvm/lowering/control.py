"""Views, branches and loops: operations that launch nothing themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

from tilewright.backends.llvm.lowering.rules import lowers
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.view import View
from tilewright.backends.llvm.program import Branch, Copy, Repeat, Step
from tilewright.compiler.ir.core import Region, Value, walk
from tilewright.compiler.ir.dims import Dim, sym, symbols
from tilewright.compiler.ir.ops import control, shape
from tilewright.compiler.ir.ops.leaf import Constant


@lowers(Constant)
def constant(low: Lowering, op: Constant) -> None:
    """Nothing: a constant gets its place when it is used."""


@lowers(shape.Reshape)
def reshape(low: Lowering, op: shape.Reshape) -> None:
    """The same memory with another shape; a copy where no strides can express it."""
    view = low.stored(op.x).reshape(op.shape)
    if view is None:
        view = low.dense(op.x).reshape(op.shape)
        assert view is not None
    low.alias(op.out, view)


@lowers(shape.Transpose)
def transpose(low: Lowering, op: shape.Transpose) -> None:
    """The same memory with permuted strides."""
    low.alias(op.out, low.stored(op.x).transpose(op.perm))


@lowers(shape.Broadcast)
def broadcast(low: Lowering, op: shape.Broadcast) -> None:
    """The same memory with strides of 0."""
    low.alias(op.out, low.stored(op.x).broadcast(op.shape))


@lowers(shape.Slice)
def slice_(low: Lowering, op: shape.Slice) -> None:
    """The same memory from an offset, with multiplied strides."""
    low.alias(op.out, low.stored(op.x).slice(op.starts, op.steps, op.shape))


@contextmanager
def _nested(low: Lowering) -> Iterator[list[Step]]:
    """Collect the steps of a region; copies made inside are not known outside."""
    outer, low.steps = low.steps, []
    low.depth += 1
    try:
        yield low.steps
    finally:
        low.depth -= 1
        low.steps = outer


def copy_into(low: Lowering, value: Value, target: View) -> None:
    """Copy the elements of `value` to the dense `target`."""
    view = low.view(value)
    if view.dense:
        low.steps.append(Copy(view.at, target.at, view.bytes))
        return
    from tilewright.backends.llvm.lowering.regions import launch_copy

    launch_copy(low, view, target)


def _body(low: Lowering, region: Region) -> None:
    from tilewright.backends.llvm.lowering.lower import lower_ops

    lower_ops(low, region.ops)


@lowers(control.If)
def branch(low: Lowering, op: control.If) -> None:
    """Both bodies copy their results to the same places."""
    targets = [low.result(v) for v in op.results]
    arms: list[tuple[Step, ...]] = []
    for region in op.regions:
        with _nested(low) as steps:
            _body(low, region)
            for value, target in zip(region.results, targets, strict=True):
                copy_into(low, value, target)
        arms.append(tuple(steps))
    low.steps.append(Branch(low.dense(op.condition).at, arms[0], arms[1]))


@lowers(control.Loop)
def loop(low: Lowering, op: control.Loop) -> None:
    """Carried values have one place each, written at the end of every iteration."""
    counter = f"loop{len(low.program.counters)}"
    low.program.counters.append(counter)
    i = sym(counter)
    count = len(op.carried)
    state = [low.result(v) for v in op.results[:count]]
    for start, place in zip(op.carried, state, strict=True):
        copy_into(low, start, place)
    # stacked along axis 0, so that strides do not depend on how many iterations there will be
    stacks = [_stack(low, v, a) for v, a in zip(op.results[count:], op.stack_axes, strict=True)]
    conditional = not _always(low, op.body.results[0]) or op.condition is not None
    flag: View | None = None
    if conditional:
        flag = low.buffer(op.body.results[0].dtype, (), "while")
        if op.condition is not None:
            copy_into(low, op.condition, flag)
        else:
            _set_true(low, flag)
    with _nested(low) as steps:
        _loop_params(low, op, i, state)
        _body(low, op.body)
        new = [low.view(v) for v in op.body.results[1 : 1 + count]]
        # a result may be another carried value's place: read all before writing any
        staged = [_stage(low, view, place, state) for view, place in zip(new, state, strict=True)]
        for piece, stack, back in zip(
            op.body.results[1 + count :], stacks, op.stack_reverse, strict=True
        ):
            _store_piece(low, piece, stack, _position(i, low.bound(stack.shape[0]), back))
        if flag is not None:
            copy_into(low, op.body.results[0], flag)
        for view, place in zip(staged, state, strict=True):
            _copy_view(low, view, place)
    length = op.length
    data = _data_symbol(low, length)
    low.steps.append(
        Repeat(counter, op.trips, None if flag is None else flag.at, tuple(steps), data)
    )
    for value, stack, axis, back in zip(
        op.results[count:], stacks, op.stack_axes, op.stack_reverse, strict=True
    ):
        size = stack.shape[0]
        if back:  # pieces went to the end of memory for as many as there could have been
            unused = (low.bound(size) - size) * stack.strides[0]
            stack = dataclasses.replace(stack, offset=stack.offset + unused)
        order = [*range(1, axis + 1), 0, *range(axis + 1, len(stack.shape))]
        low.alias(value, stack.transpose(tuple(order)))


def _always(low: Lowering, condition: Value) -> bool:
    array = low.array(condition)
    return array is not None and bool(array.reshape(-1)[0])


def _set_true(low: Lowering, flag: View) -> None:
    import numpy as np

    one = np.array(True)
    place = low.weight(("raw", "true"), "true", 1, lambda: one)
    low.steps.append(Copy(place, flag.at, 1))


def _loop_params(low: Lowering, op: control.Loop, i: Dim, state: list[View]) -> None:
    from tilewright.backends.llvm.lowering.regions import launch_dim

    iteration, *rest = op.body.params
    if iteration in _used(op.body):
        place = low.buffer(iteration.dtype, iteration.shape, "iteration")
        launch_dim(low, i, place)
        low.views[iteration] = place
    for param, place in zip(rest, state, strict=False):
        low.views[param] = place
    for param, value, axis, back in zip(
        rest[len(state) :], op.scanned, op.scan_axes, op.scan_reverse, strict=True
    ):
        view = low.view(value)
        at = _position(i, view.shape[axis], back)
        keep = [a for a in range(len(view.shape)) if a != axis]
        low.views[param] = View(
            view.place,
            view.dtype,
            tuple(view.shape[a] for a in keep),
            tuple(view.strides[a] for a in keep),
            view.offset + at * view.strides[axis],
        )


def _used(region: Region) -> set[Value]:
    """The values that a region or the regions in it use."""
    found = {v for o in walk(region.ops) for v in o.operands} | set(region.results)
    return found.union(*(r.results for o in walk(region.ops) for r in o.regions))


def _position(i: Dim, size: Dim, back: bool) -> Dim:
    return size - 1 - i if back else i


def _stage(low: Lowering, view: View, place: View, state: list[View]) -> View:
    others = [s.place for s in state if s.place != place.place]
    if view.place in others or (view.place == place.place and view != place):
        made = low.buffer(view.dtype, view.shape, "next")
        _copy_view(low, view, made)
        return made
    return view


def _copy_view(low: Lowering, view: View, target: View) -> None:
    if view == target:
        return
    if view.dense:
        low.steps.append(Copy(view.at, target.at, view.bytes))
        return
    from tilewright.backends.llvm.lowering.regions import launch_copy

    launch_copy(low, view, target)


def _stack(low: Lowering, value: Value, axis: int) -> View:
    piece = [d for a, d in enumerate(value.shape) if a != axis]
    return low.buffer(value.dtype, (value.shape[axis], *piece), "stack")


def _store_piece(low: Lowering, piece: Value, stack: View, at: Dim) -> None:
    offset = stack.offset + at * stack.strides[0]
    target = View(stack.place, stack.dtype, stack.shape[1:], stack.strides[1:], offset)
    _copy_view(low, low.view(piece), target)


def _data_symbol(low: Lowering, length: Dim | None) -> str | None:
    if length is None or isinstance(length, int):
        return None
    for name in symbols(length):
        if low.graph.symbols[name].source[0] == "data" and length == sym(name):
            return name
    return None
