"""ctypes view of a loaded model's C ABI (include/tilewright.h)."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from tilewright.runtime.errors import ArtifactError, ExecutionError, FeedError, TargetError
from tilewright.runtime.manifest import ABI

OK, SHAPE_CONFLICT, OUT_OF_MEMORY, DATA_ERROR, CPU_LACKS_FEATURE = 0, 1, 2, 3, 4

Shape = tuple[int, ...]


class _Tensor(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("shape", ctypes.POINTER(ctypes.c_int64)))


class Library:
    """A dlopened model; stays loaded until the last session that uses it is gone."""

    def __init__(self, where: str, code: memoryview) -> None:
        descriptor = os.memfd_create("tilewright", os.MFD_CLOEXEC)
        try:
            with os.fdopen(os.dup(descriptor), "wb") as file:
                file.write(code)
            # dlopen knows loaded objects by path. The descriptor stays open as long as the object
            # is loaded, so that no other model can get the same path and be taken for this one.
            handle = ctypes.CDLL(f"/proc/self/fd/{descriptor}")
            self.functions = _Functions(handle)
            found = self.functions.abi()
        except (OSError, AttributeError) as refusal:
            os.close(descriptor)
            raise TargetError(
                where,
                "the model's code cannot be loaded",
                f"the system says: {refusal}",
                "run on Linux with glibc, on the machine type the model was compiled for",
            ) from None
        self._finalizer = weakref.finalize(
            self, _close_library, handle._handle, descriptor, os.getpid()
        )
        self._finalizer.atexit = False
        if found != ABI:
            raise ArtifactError(
                where,
                "the model's code has another ABI",
                f"expected ABI {ABI}, found {found}",
                "compile the model again with this version",
            )


def _close_library(handle: int, descriptor: int, owner: int) -> None:
    if os.getpid() == owner:
        from _ctypes import dlclose

        dlclose(handle)
        os.close(descriptor)


class _Functions:
    """The exported functions with their C types."""

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, word, status = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32
        tensors = ctypes.POINTER(_Tensor)
        words = ctypes.POINTER(word)

        def typed(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
            function = getattr(library, name)
            function.restype, function.argtypes = result, list(arguments)
            return function  # type: ignore[no-any-return]

        self.abi = typed("tw_abi", status)
        self.create = typed("tw_create", status, pointer, word, ctypes.POINTER(pointer))
        self.shapes = typed("tw_shapes", status, pointer, tensors, tensors)
        self.run = typed("tw_run", status, pointer, tensors, tensors)
        self.arena_bytes = typed("tw_arena_bytes", word, pointer)
        self.profile = typed("tw_profile", status, pointer, words, words)
        self.error = typed("tw_error", ctypes.c_char_p, pointer)
        self.destroy = typed("tw_destroy", None, pointer)


class NativeSession:
    """One tw_create'd session. Not thread-safe: its owner holds a lock.

    `weights` is the address of the weight data; the owner keeps its mapping alive.
    """

    def __init__(
        self,
        where: str,
        library: Library,
        weights: int,
        threads: int,
        input_ranks: Sequence[int],
        output_ranks: Sequence[int],
    ) -> None:
        self.where = where
        self.library = library
        self._functions = library.functions
        handle = ctypes.c_void_p()
        status = self._functions.create(weights, threads, ctypes.byref(handle))
        if status == CPU_LACKS_FEATURE:
            raise TargetError(
                where,
                self._text(None),
                "",
                "compile the model again with a target of this machine",
            )
        if status != OK:
            hint = "use fewer threads, or free memory"
            raise ExecutionError(where, self._text(None), f"status {status} of tw_create", hint)
        self._handle = handle
        self._inputs, self._input_shapes = _tensors(input_ranks)
        self._outputs, self._output_shapes = _tensors(output_ranks)
        self._output_ranks = tuple(output_ranks)
        self._input_list = [self._inputs[index] for index in range(len(input_ranks))]
        self._output_list = [self._outputs[index] for index in range(len(output_ranks))]
        self._profile_arrays: tuple[Any, Any] | None = None
        self.close = weakref.finalize(
            self, _destroy, library, self._functions.destroy, handle, os.getpid()
        )

    def set_input(self, index: int, address: int, shape: Shape) -> None:
        """Point input `index` to memory of the caller."""
        self._inputs[index].data = address
        self._input_shapes[index][: len(shape)] = shape

    def shapes(self) -> list[Shape]:
        """Shapes (upper bounds where they depend on data) of the outputs for the set inputs."""
        self._check(self._functions.shapes(self._handle, self._inputs, self._outputs))
        return self._shapes()

    def run(self, outputs: Sequence[int]) -> list[Shape]:
        """Run into the buffers at addresses `outputs`, each of at least the `shapes` size; the
        final shapes."""
        for index, address in enumerate(outputs):
            self._outputs[index].data = address
        self._check(self._functions.run(self._handle, self._inputs, self._outputs))
        return self._shapes()

    def run_again(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Run with shapes as they were at the last `run`, arrays at these addresses."""
        for tensor, address in zip(self._input_list, inputs, strict=True):
            tensor.data = address
        for tensor, address in zip(self._output_list, outputs, strict=True):
            tensor.data = address
        status = self._functions.run(self._handle, self._inputs, self._outputs)
        if status != OK:
            self._check(status)

    def _shapes(self) -> list[Shape]:
        return [
            tuple(shape[:rank])
            for shape, rank in zip(self._output_shapes, self._output_ranks, strict=True)
        ]

    def arena_bytes(self) -> int:
        """Bytes of scratch memory that the session holds."""
        return int(self._functions.arena_bytes(self._handle))

    def start_profile(self, launches: int) -> None:
        """Count time and calls of each launch from now on."""
        array = ctypes.c_int64 * max(1, launches)
        self._profile_arrays = (array(), array())
        self._functions.profile(self._handle, *self._profile_arrays)

    def stop_profile(self) -> tuple[list[int], list[int]]:
        """Nanoseconds and calls of each launch since `start_profile`."""
        self._functions.profile(self._handle, None, None)
        assert self._profile_arrays is not None, "start_profile comes first"
        nanoseconds, calls = self._profile_arrays
        self._profile_arrays = None
        return list(nanoseconds), list(calls)

    def _text(self, handle: ctypes.c_void_p | None) -> str:
        return bytes(self._functions.error(handle)).decode(errors="replace")

    def _check(self, status: int) -> None:
        if status == OK:
            return
        text = self._text(self._handle)
        if status == SHAPE_CONFLICT:
            shapes = [str(tuple(shape)) for shape in self._input_shapes]
            raise FeedError(
                self.where,
                text,
                f"the inputs have shapes {', '.join(shapes)}",
                "see get_inputs() for the shapes that the model takes",
            )
        hints = {
            OUT_OF_MEMORY: "use smaller inputs, or free memory",
            DATA_ERROR: "check the values of the inputs",
        }
        # A check of the model's own may bring its advice along.
        text, _, advice = text.partition("; try: ")
        hint = advice or hints.get(status, "check the values of the inputs")
        raise ExecutionError(self.where, text, f"status {status} of tw_run", hint)


def _destroy(
    library: Library, destroy: Callable[..., Any], handle: ctypes.c_void_p, owner: int
) -> None:
    # A forked child has the memory but not the threads: joining them would never return.
    if os.getpid() == owner:
        destroy(handle)
    del library  # held until here: the call above runs its code


def _tensors(ranks: Sequence[int]) -> tuple[Any, list[Any]]:
    tensors = (_Tensor * max(1, len(ranks)))()
    shapes = [(ctypes.c_int64 * rank)() for rank in ranks]
    for tensor, shape in zip(tensors, shapes, strict=False):
        tensor.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
    return tensors, shapes
