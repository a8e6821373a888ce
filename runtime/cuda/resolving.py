"""Values of a program's symbols from the inputs of a run, checked as native code checks them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tilewright.runtime.cuda.program import Program
from tilewright.runtime.cuda.sizes import compiled
from tilewright.runtime.errors import ExecutionError, FeedError

Shape = tuple[int, ...]

CONFLICT = "input shapes conflict with each other or lie outside of the model's bounds"


class Resolver:
    """Sizes of one program. `where`: the artifact, for messages."""

    def __init__(self, where: str, program: Program) -> None:
        self.where, self.program = where, program
        slots = program.slots
        self._from_shapes = [
            (slots[s.name], s.input, s.position, s.low, s.high)
            for s in program.symbols
            if s.source[0] == "shape"
        ]
        self._from_values = [
            (slots[s.name], s.input, s.position, s.low, s.high)
            for s in program.symbols
            if s.source[0] == "value"
        ]
        self.reads_values = bool(self._from_values)
        self._axes = compiled([size for shape in program.inputs for size in shape], slots)
        data = [symbol for symbol in program.symbols if symbol.data]
        self._data = [slots[symbol.name] for symbol in data]
        self._uppers = compiled([symbol.upper for symbol in data], slots)
        sides = [side for c in program.constraints for side in (c.left, c.right)]
        self._constraints = compiled(sides, slots)
        self.memory = compiled([program.arena, *program.buffers], slots)
        self._upper_shapes = compiled([s for o in program.outputs for s in o.upper], slots)
        self._final_shapes = compiled([s for o in program.outputs for s in o.shape], slots)

    def resolve(
        self,
        values: list[int],
        shapes: Sequence[Shape],
        element: Callable[[int, int], int | None],
    ) -> None:
        """Set the values of all symbols for inputs of these shapes.

        element: reads an element of an integer input, None beyond its end. Raises FeedError for
        shapes that do not fit, ExecutionError for a constraint of the model that does not hold.
        """
        for slot, index, axis, low, high in self._from_shapes:
            values[slot] = size = shapes[index][axis]
            if size < low or (high is not None and size > high):
                raise self._conflict(shapes)
        for slot, index, position, low, high in self._from_values:
            found = element(index, position)
            if found is None or found < low or (high is not None and found > high):
                raise self._conflict(shapes)
            values[slot] = found
        try:
            if self._axes(values) != tuple([size for shape in shapes for size in shape]):
                raise self._conflict(shapes)
            for slot, upper in zip(self._data, self._uppers(values), strict=True):
                values[slot] = upper
            sides = self._constraints(values)
        except ZeroDivisionError:
            raise self._conflict(shapes) from None
        for i, constraint in enumerate(self.program.constraints):
            if sides[2 * i] != sides[2 * i + 1]:
                raise self.error(constraint.error)

    def upper_shapes(self, values: Sequence[int]) -> list[Shape]:
        """Shapes that outputs do not exceed."""
        return self._split(self._upper_shapes(values))

    def final_shapes(self, values: Sequence[int]) -> list[Shape]:
        """Shapes of outputs after the run."""
        return self._split(self._final_shapes(values))

    def _split(self, sizes: tuple[int, ...]) -> list[Shape]:
        found, at = [], 0
        for output in self.program.outputs:
            found.append(sizes[at : at + len(output.shape)])
            at += len(output.shape)
        return found

    def error(self, code: int) -> ExecutionError:
        """What a run raises that ends with an error code."""
        text = self.program.errors.get(code, "a kernel failed")
        hint = "check the values of the inputs"
        return ExecutionError(self.where, text, f"status {code} of the run", hint)

    def _conflict(self, shapes: Sequence[Shape]) -> FeedError:
        return FeedError(
            self.where,
            CONFLICT,
            f"the inputs have shapes {', '.join(str(tuple(shape)) for shape in shapes)}",
            "see get_inputs() for the shapes that the model takes",
        )
