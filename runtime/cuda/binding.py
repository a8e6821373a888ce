"""Zero-copy runs on a GPU: kernels read and write arrays of the caller on the device.

binding = session.bind()
binding.bind_input("x", tensor)          # a torch tensor on the GPU, or a numpy array
binding.bind_output("y")                 # stays on the device
(y,) = binding.run()
torch.from_dlpack(y)
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from tilewright.runtime.binding import Binding, check_output_shape
from tilewright.runtime.cuda import dlpack
from tilewright.runtime.cuda.arrays import DeviceArray
from tilewright.runtime.cuda.device import Device
from tilewright.runtime.cuda.driver import reported
from tilewright.runtime.cuda.session import CudaSession
from tilewright.runtime.cuda.spares import Lent
from tilewright.runtime.dtypes import ELEMENT_TYPES, array_dtype
from tilewright.runtime.engine import Shape
from tilewright.runtime.errors import FeedError
from tilewright.runtime.feeds import Array, check_names, describe_shape
from tilewright.runtime.manifest import TensorInfo

if TYPE_CHECKING:
    from tilewright.runtime.session import Session

ALIGN = 16
"""Of arrays that kernels use in place: the width of their widest loads."""

_DEFAULT_STREAMS = (None, 0, 1)
"""Of `__cuda_array_interface__`: nothing to wait for, or the stream that runs wait for anyway."""


class DeviceBinding(Binding):
    """Arrays of host and device bound to a session on a GPU; made by `Session.bind()`.

    Bound arrays are used in place: change an input's values and run again. Runs see what was
    queued before in the default stream; whoever works in other streams gives `run` his stream.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._views: dict[str, DeviceArray] = {}
        """Bound on the device, inputs and outputs (names are unique among each)."""
        self._results: dict[str, DeviceArray | None] = {}
        self._targets: list[Any] = []

    def bind_input(self, name: str, array: Any) -> None:
        """Read input `name` from `array`: of numpy, or on the device with `__dlpack__` or
        `__cuda_array_interface__`; C-contiguous, of the input's type, rank and sizes, on the device
        at a multiple of 16 bytes. Raises FeedError; the array is never copied."""
        self._targets = []
        tensor = self._find(self._session.manifest.inputs, name, "input")
        place = f"{self._session.where}: input {name!r}"
        checked = self._viewed(place, tensor, array)
        if checked is None:
            super().bind_input(name, array)
            self._views.pop(name, None)
            return
        for axis, wanted in enumerate(tensor.shape):
            if isinstance(wanted, int) and checked.shape[axis] != wanted:
                raise FeedError(
                    place,
                    f"wrong size of axis {axis}",
                    f"expected {wanted}, in shape {describe_shape(tensor.shape)}; "
                    f"found {checked.shape[axis]}, in shape {checked.shape}",
                    "reshape or pad the array",
                )
        for other, held in self._results.items():
            if held is not None and held.bound is None and held.overlaps(checked):
                self._results[other] = None  # what a loop feeds back; the next run gets new memory
        self._refuse_shared(place, checked, self._results)
        self._inputs.pop(name, None)
        self._views[name] = checked

    def bind_output(self, name: str, array: Any = None) -> None:
        """Write output `name` into `array`, of numpy or on the device as for inputs.

        Without an array the output stays on the device: runs return a `DeviceArray`, the same one
        as long as its shape stays and it is not bound as an input. Shapes are compared when it
        runs. Raises FeedError.
        """
        self._targets = []
        tensor = self._find(self._session.manifest.outputs, name, "output")
        place = f"{self._session.where}: output {name!r}"
        if array is None:
            self._outputs.pop(name, None)
            self._results[name] = None
            return
        checked = self._viewed(place, tensor, array, writes=True)
        if checked is None:
            super().bind_output(name, array)
            self._results.pop(name, None)
            return
        others = {key: value for key, value in self._results.items() if key != name}
        self._refuse_shared(place, checked, self._views, others)
        self._outputs.pop(name, None)
        self._results[name] = checked

    def run(self, stream: int | None = None) -> list[Any]:
        """Run the model; the outputs in the model's order, bound arrays where they were bound.

        stream: handle of a stream of the caller (`torch.cuda.current_stream().cuda_stream`): the
        run is queued there behind what is there already, and is not waited for if all arrays are on
        the device and no size depends on data. A failure is then raised by a later run, or by
        `synchronize`. Without it the run has ended when this returns.

        An output whose shape depends on data may come out smaller than its bound array: the result
        is then a view of the array's first elements. Raises FeedError and ExecutionError.
        """
        with self._session.engine() as running:
            engine = cast(CudaSession, running)
            if self._targets and engine.owner is self:
                return self._finished(engine.repeat(stream))
            shapes = self._set(engine)
            self._targets = self._made(engine, shapes)
            addresses = [_address(target) for target in self._targets]
            there = [isinstance(target, DeviceArray) for target in self._targets]
            final = engine.run(addresses, there, stream)
            engine.owner = self
            return self._finished(final)

    def synchronize(self) -> None:
        """Wait for runs that were not waited for; raises what they failed with."""
        with self._session.engine() as running:
            cast(CudaSession, running).synchronize()

    def _set(self, engine: CudaSession) -> list[Shape]:
        session = self._session
        bound: dict[str, Any] = {**self._inputs, **self._views}
        check_names(session.where, session.manifest.inputs, bound)
        for index, tensor in enumerate(session.manifest.inputs):
            array = bound[tensor.name]
            engine.set_input(index, _address(array), array.shape, isinstance(array, DeviceArray))
        return engine.shapes()

    def _made(self, engine: CudaSession, shapes: list[Shape]) -> list[Any]:
        """Where each output goes."""
        found: list[Any] = []
        for tensor, shape in zip(self._session.manifest.outputs, shapes, strict=True):
            name = tensor.name
            if name not in self._results:
                array = self._outputs.get(name)
                if array is None:
                    array = np.empty(shape, array_dtype(tensor.dtype))
                check_output_shape(self._session.where, name, array, shape)
                found.append(array)
                continue
            held = self._results[name]
            if held is None or (held.bound is None and held.shape != shape):
                size = prod(shape) * ELEMENT_TYPES[tensor.dtype].bytes
                with reported(self._session.where), engine.device.active():
                    lent = engine.spares.lend(size)
                held = DeviceArray(engine.device, lent, lent.address, tensor.dtype, shape)
                self._results[name] = held
            check_output_shape(self._session.where, name, cast(Array, held), shape)
            found.append(held)
        return found

    def _finished(self, final: list[Shape]) -> list[Any]:
        found: list[Any] = []
        for tensor, target, shape in zip(
            self._session.manifest.outputs, self._targets, final, strict=True
        ):
            if isinstance(target, DeviceArray):
                whole = target.bound if target.bound is not None else target
                found.append(whole if target.shape == shape else target.first(shape))
            elif tensor.name in self._outputs:
                first = target.reshape(-1)[: prod(shape)].reshape(shape)
                found.append(target if target.shape == shape else first)
            else:
                # An array of an output that is not bound is the caller's alone.
                found.append(target.reshape(-1)[: prod(shape)].reshape(shape).copy())
        return found

    def _viewed(
        self, place: str, tensor: TensorInfo, array: Any, writes: bool = False
    ) -> DeviceArray | None:
        """An array on the device; None for others."""
        if isinstance(array, np.ndarray | np.generic):
            return None
        with self._session.engine() as running:
            engine = cast(CudaSession, running)
            if isinstance(array, DeviceArray) and _made_by(engine, array):
                found: dlpack.View | None = array.view()
            else:
                found = dlpack.view(array, int(engine.stream))
            if found is None:
                return None
            if found.device not in (-1, engine.device.ordinal):
                raise FeedError(
                    place,
                    "the array is on another device",
                    f"expected device {engine.device.ordinal}, found device {found.device}",
                    "copy it to the session's device",
                )
            if writes and found.read_only:
                raise FeedError(
                    place,
                    "the array is read-only",
                    "expected a writeable array",
                    "bind an array that owns its memory",
                )
            if found.stream not in _DEFAULT_STREAMS:
                with reported(place), engine.device.active():
                    engine.device.driver("cuStreamSynchronize", found.stream)
            return _checked(place, tensor, found, engine.device)

    @staticmethod
    def _refuse_shared(
        place: str, array: DeviceArray, *groups: Mapping[str, DeviceArray | None]
    ) -> None:
        # Kernels read inputs after they have begun to write outputs.
        for group in groups:
            for name, other in group.items():
                if other is not None and array.overlaps(other):
                    raise FeedError(
                        place,
                        "the array shares memory with another bound array",
                        f"it overlaps the array bound to {name!r}",
                        "bind arrays that do not overlap",
                    )


def _made_by(engine: CudaSession, array: DeviceArray) -> bool:
    """Whether it is an output of runs of this session, which wait for each other."""
    return isinstance(array.owner, Lent) and array.owner.spares is engine.spares


def _address(array: Any) -> int:
    if isinstance(array, DeviceArray):
        return array.address
    return int(array.__array_interface__["data"][0])


def _checked(place: str, tensor: TensorInfo, view: dlpack.View, device: Device) -> DeviceArray:
    """The view as an array of the tensor's type and rank that kernels can use; FeedError if not."""
    storage = np.dtype(ELEMENT_TYPES[tensor.dtype].storage)
    plain = "bool" if storage.kind == "b" else f"{storage.kind}{storage.itemsize * 8}"
    if not {tensor.dtype, plain} & set(view.dtypes):
        raise FeedError(
            place,
            "wrong element type",
            f"expected {tensor.dtype}, found {view.dtypes[0]}",
            "convert the array",
        )
    if len(view.shape) != len(tensor.shape):
        raise FeedError(
            place,
            "wrong number of dimensions",
            f"expected {len(tensor.shape)}, {describe_shape(tensor.shape)}; "
            f"found {len(view.shape)}, {view.shape}",
            "reshape the array",
        )
    if not view.contiguous:
        raise FeedError(
            place,
            "the array cannot be used in place",
            f"expected C-contiguous memory, found strides {view.strides} for shape {view.shape}",
            "bind a contiguous copy",
        )
    if view.address % ALIGN:
        raise FeedError(
            place,
            "the array cannot be used in place",
            f"expected an address that is a multiple of {ALIGN}, found {view.address:#x}",
            "bind a copy",
        )
    return DeviceArray(device, view.owner, view.address, tensor.dtype, view.shape, view.array)
