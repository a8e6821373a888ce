"""Zero-copy runs: the model reads and writes arrays of the caller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tilewright.runtime.errors import FeedError, nearest
from tilewright.runtime.feeds import Array, check_array, check_type, describe_shape
from tilewright.runtime.manifest import TensorInfo

if TYPE_CHECKING:
    from tilewright.runtime.session import Session


class Binding:
    """Arrays bound to the inputs and outputs of a session; made by `Session.bind()`.

    Bound arrays are used in place: change an input's values and run again. An output that is not
    bound gets a new array at each run.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._inputs: dict[str, Array] = {}
        self._outputs: dict[str, Array] = {}

    def bind_input(self, name: str, array: Array) -> None:
        """Read input `name` from `array`: C-contiguous, of the input's type, rank and sizes.

        Raises FeedError; the array is never copied.
        """
        tensor = self._find(self._session.manifest.inputs, name, "input")
        where = self._session.where
        checked = check_array(where, tensor, array)
        if checked is not array and not np.shares_memory(checked, array):
            raise _not_contiguous(f"{where}: input {name!r}", array)
        self._refuse_overlap(f"{where}: input {name!r}", checked, {}, self._outputs)
        self._inputs[name] = checked

    def bind_output(self, name: str, array: Array) -> None:
        """Write output `name` into `array`: C-contiguous, writeable, of the output's type and rank.

        Its shape is compared when it runs. Raises FeedError.
        """
        tensor = self._find(self._session.manifest.outputs, name, "output")
        place = f"{self._session.where}: output {name!r}"
        if not isinstance(array, np.ndarray):
            raise FeedError(
                place,
                "not a numpy array",
                f"expected a numpy array, found {type(array).__name__}",
                "numpy.empty(shape, dtype)",
            )
        symbolic = TensorInfo(tensor.name, tensor.dtype, tuple(str(dim) for dim in tensor.shape))
        check_type(place, symbolic, array)
        if not (array.flags.c_contiguous and array.flags.aligned):
            raise _not_contiguous(place, array)
        if not array.flags.writeable:
            raise FeedError(
                place,
                "the array is read-only",
                "expected a writeable array",
                "bind an array that owns its memory",
            )
        others = {key: value for key, value in self._outputs.items() if key != name}
        self._refuse_overlap(place, array, self._inputs, others)
        self._outputs[name] = array

    def run(self) -> list[Array]:
        """Run the model; the outputs in the model's order, bound arrays where they were bound.

        An output whose shape depends on data may come out smaller than its bound array: the result
        is then a view of the array's first elements. Raises FeedError and ExecutionError.
        """
        return self._session.run_bound(self._inputs, self._outputs)

    def _find(self, tensors: tuple[TensorInfo, ...], name: str, kind: str) -> TensorInfo:
        for tensor in tensors:
            if tensor.name == name:
                return tensor
        raise FeedError(
            self._session.where,
            f"unknown {kind} {name!r}",
            nearest(name, [tensor.name for tensor in tensors]),
            f"see get_{kind}s()",
        )

    @staticmethod
    def _refuse_overlap(place: str, array: Array, *groups: dict[str, Array]) -> None:
        # Kernels read inputs after they have begun to write outputs.
        for group in groups:
            for name, other in group.items():
                if np.may_share_memory(array, other):
                    raise FeedError(
                        place,
                        "the array shares memory with another bound array",
                        f"it overlaps the array bound to {name!r}",
                        "bind arrays that do not overlap",
                    )


def check_output_shape(where: str, name: str, array: Array, shape: tuple[int, ...]) -> None:
    """FeedError unless a bound output has the shape that the run needs."""
    if array.shape != shape:
        raise FeedError(
            f"{where}: output {name!r}",
            "the bound array has the wrong shape",
            f"expected {describe_shape(shape)}, found {array.shape}",
            "bind an array of the expected shape",
        )


def _not_contiguous(place: str, array: Any) -> FeedError:
    return FeedError(
        place,
        "the array cannot be used in place",
        f"expected C-contiguous memory, found strides {array.strides} for shape {array.shape}",
        "bind numpy.ascontiguousarray(array)",
    )
