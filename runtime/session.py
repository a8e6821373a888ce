"""Runs an artifact, in the shape of onnxruntime's InferenceSession.

session = tilewright.load("model.tw")
(logits,) = session.run(None, {"input_ids": ids})
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from tilewright.runtime.binding import Binding, check_output_shape
from tilewright.runtime.caches import CacheInfo, cache_infos
from tilewright.runtime.dtypes import ELEMENT_TYPES, array_dtype
from tilewright.runtime.engine import Engine, Shape
from tilewright.runtime.errors import ExecutionError, FeedError, TargetError, nearest
from tilewright.runtime.feeds import Array, check_array, check_names, check_type, resolve_dims
from tilewright.runtime.loader import open_artifact
from tilewright.runtime.manifest import TensorInfo, Variant
from tilewright.runtime.native import NativeSession
from tilewright.runtime.profile import ProfileRow, profile_rows
from tilewright.runtime.repeat import Repeat, deciding
from tilewright.runtime.variants import CUDA, runnable


@dataclass(frozen=True)
class NodeArg:
    """An input or output: `type` as onnxruntime writes it ('tensor(float)'); symbolic dims are
    strings in `shape`."""

    name: str
    type: str
    shape: list[int | str]


@dataclass(frozen=True)
class ModelMetadata:
    """What the artifact says of the model, under onnxruntime's names."""

    producer_name: str
    graph_name: str
    custom_metadata_map: dict[str, str]
    description: str = ""
    domain: str = ""
    graph_description: str = ""
    version: int = 0


def load(path: str | os.PathLike[str], threads: int | None = None, **options: Any) -> Session:
    """Open the artifact at `path`; see `Session`."""
    return Session(path, threads, **options)


class Session:
    """A loaded model. Runs may come from several threads; they take turns.

    threads: with the caller; None takes all CPUs that the process may use. Results do not depend on
    it. verify: compare the file with its checksums before any of it is used (large weights in the
    background while loading goes on; the first run waits for that). variant: target name
    of the code to use, instead of the best that this CPU runs. slice: bits of the weights' codes
    that are read, of an artifact that was compiled with several (`slices`); None for the most.
    Sessions of all slices use one mapping of one copy of the weights.

    Raises ArtifactError for a file that cannot be used, TargetError for a machine that cannot run
    it or a variant or slice that the artifact does not have, ValueError for a thread count below 1.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        threads: int | None = None,
        *,
        verify: bool = True,
        variant: str | None = None,
        slice: int | None = None,
    ) -> None:
        if threads is None:
            threads = len(os.sched_getaffinity(0))
        if threads < 1:
            raise ValueError(f"threads: expected None or at least 1, found {threads}")
        self.where = os.fspath(path)
        self.threads = threads
        self._file = open_artifact(path, verify)
        self.manifest = self._file.manifest
        self._lock = threading.Lock()
        self._input_types = [array_dtype(tensor.dtype) for tensor in self.manifest.inputs]
        self._output_types = [array_dtype(tensor.dtype) for tensor in self.manifest.outputs]
        self._output_names = [tensor.name for tensor in self.manifest.outputs]
        self._native: Engine | None = None
        self._all = range(len(self._output_names))
        self._deciding = deciding(self.manifest)
        self._repeat: Repeat | None = None
        self._start(self._choose(variant, slice))

    def _choose(self, wanted: str | None, bits: int | None) -> list[Variant]:
        if bits is None:
            bits = max((v.slice for v in self.manifest.variants), default=0)
        elif not bits or bits not in self.slices:
            have = ", ".join(map(str, self.slices))
            raise TargetError(
                self.where,
                f"the artifact has no slice of {bits} bits",
                f"it has slices of {have} bits" if have else "it was compiled without slices",
                "leave the slice out, or compile the model with --slices",
            )
        variants = tuple(v for v in self.manifest.variants if v.slice == bits)
        if wanted is not None:
            variants = tuple(variant for variant in variants if variant.target == wanted)
            if not variants:
                targets = [variant.target for variant in self.manifest.variants]
                raise TargetError(
                    self.where,
                    f"the artifact has no variant {wanted!r}",
                    nearest(wanted, targets),
                    "leave the variant out to get the best one",
                )
        return runnable(self.where, variants)

    def _start(self, variants: Sequence[Variant]) -> None:
        for index, variant in enumerate(variants):
            try:
                self._native = self._engine(variant)
            except TargetError:
                # The code asks the CPU itself; its word counts more than /proc/cpuinfo's. A GPU's
                # driver may refuse code that its device could run.
                if index + 1 == len(variants):
                    raise
            else:
                self._used = variant
                return

    def _engine(self, variant: Variant) -> Engine:
        if variant.machine == CUDA:
            from tilewright.runtime.cuda.session import open_session

            return open_session(self._file, variant)
        ranks = [
            [len(tensor.shape) for tensor in tensors]
            for tensors in (self.manifest.inputs, self.manifest.outputs)
        ]
        library, weights = self._file.library(variant), self._file.weights_address()
        return NativeSession(self.where, library, weights, self.threads, *ranks)

    @property
    def variant(self) -> str:
        """Target name of the code in use."""
        return self._used.target

    @property
    def slice(self) -> int:
        """Bits of the weights' codes that are read; 0 for an artifact without slices."""
        return self._used.slice

    @property
    def slices(self) -> tuple[int, ...]:
        """The slices of the artifact, the widest first."""
        found = {variant.slice for variant in self.manifest.variants if variant.slice}
        return tuple(sorted(found, reverse=True))

    def get_inputs(self) -> list[NodeArg]:
        """The model's inputs in order."""
        return [_node(tensor) for tensor in self.manifest.inputs]

    def get_outputs(self) -> list[NodeArg]:
        """The model's outputs in order."""
        return [_node(tensor) for tensor in self.manifest.outputs]

    def get_modelmeta(self) -> ModelMetadata:
        """Producer, name and metadata of the model."""
        manifest = self.manifest
        return ModelMetadata(manifest.producer, manifest.name, dict(manifest.metadata))

    def get_providers(self) -> list[str]:
        """For code written for onnxruntime: one provider, named after the variant in use."""
        return [f"Tilewright[{self.variant}]"]

    @property
    def caches(self) -> tuple[CacheInfo, ...]:
        """Key-value caches in codes: a decoding loop feeds their outputs as their inputs."""
        return cache_infos(self.manifest.metadata)

    @property
    def arena_bytes(self) -> int:
        """Bytes of scratch memory that runs have needed so far."""
        with self._lock:
            return self._open_session().arena_bytes()

    def run(
        self,
        output_names: Sequence[str] | None,
        feeds: Mapping[str, Any],
        run_options: object = None,
    ) -> list[Array]:
        """Outputs for `feeds` (input name -> numpy array), in the order of `output_names`.

        None or an empty list stands for all outputs. `run_options` is there for code written for
        onnxruntime and has no effect. Raises FeedError for feeds that do not fit the model,
        ExecutionError when the model reports a failure.
        """
        picks = self._pick_outputs(output_names) if output_names else self._all
        found = self._again(feeds, {})
        if found is not None:
            return [found[index] for index in picks]
        check_names(self.where, self.manifest.inputs, feeds)
        arrays = [
            check_array(self.where, tensor, feeds[tensor.name]) for tensor in self.manifest.inputs
        ]
        outputs = self._execute(arrays, {})
        return [outputs[index] for index in picks]

    def bind(self) -> Binding:
        """A new binding of the caller's arrays to this session, for runs without copies.

        Of a session on a GPU it takes arrays on the device too: `runtime.cuda.binding`.
        """
        if self._used.machine == CUDA:
            from tilewright.runtime.cuda.binding import DeviceBinding

            return DeviceBinding(self)
        return Binding(self)

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """The running code, for one caller at a time. Raises ExecutionError if it is closed."""
        self._file.wait_verified()
        with self._lock:
            self._repeat = None
            yield self._open_session()

    def run_bound(self, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> list[Array]:
        """What `Binding.run` calls. Contiguity was checked when the arrays were bound."""
        found = self._again(inputs, outputs)
        if found is not None:
            return found
        check_names(self.where, self.manifest.inputs, inputs)
        arrays = [inputs[tensor.name] for tensor in self.manifest.inputs]
        for tensor, array in zip(self.manifest.inputs, arrays, strict=True):
            check_type(f"{self.where}: input {tensor.name!r}", tensor, array)
        return self._execute(arrays, outputs)

    def profile(self, feeds: Mapping[str, Any], runs: int = 10) -> list[ProfileRow]:
        """Run `feeds` once to warm up and then `runs` times; a row per kernel, slowest first."""
        self.run(None, feeds)
        shapes = [np.shape(feeds[tensor.name]) for tensor in self.manifest.inputs]
        dims = resolve_dims(self.where, self.manifest, shapes)
        own = self._used.launches
        launches = self.manifest.launches if own is None else own
        with self._lock:
            self._open_session().start_profile(len(launches))
        try:
            for _ in range(runs):
                self.run(None, feeds)
        finally:
            with self._lock:
                nanoseconds, calls = self._open_session().stop_profile()
        return profile_rows(launches, nanoseconds, calls, dims)

    def close(self) -> None:
        """Stop the threads and free the memory; later runs raise ExecutionError."""
        with self._lock:
            if self._native is not None:
                self._native.close()
                self._native = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _pick_outputs(self, names: Sequence[str]) -> Sequence[int]:
        for name in names:
            if name not in self._output_names:
                raise FeedError(
                    self.where,
                    f"unknown output {name!r}",
                    nearest(str(name), self._output_names),
                    "see get_outputs() for the names",
                )
        return [self._output_names.index(name) for name in names]

    def _again(self, feeds: object, bound: Mapping[str, Array]) -> list[Array] | None:
        """The outputs, if this run is like the one before."""
        repeat = self._repeat
        inputs = None if repeat is None else repeat.match(feeds)
        if repeat is None or inputs is None:
            return None
        with self._lock:
            outputs = repeat.results(bound)
            if self._repeat is not repeat or outputs is None:
                return None
            self._open_session().run_again(
                [array.__array_interface__["data"][0] for array in inputs],
                [array.__array_interface__["data"][0] for array in outputs],
            )
        return outputs

    def _execute(self, inputs: Sequence[Array], bound: Mapping[str, Array]) -> list[Array]:
        dims = resolve_dims(self.where, self.manifest, [array.shape for array in inputs])
        self._file.wait_verified()
        with self._lock:
            native = self._open_session()
            self._repeat = None
            for index, array in enumerate(inputs):
                native.set_input(index, _address(array), array.shape)
            shapes = native.shapes()
            outputs = []
            for name, dtype, shape in zip(
                self._output_names, self._output_types, shapes, strict=True
            ):
                output = bound.get(name)
                if output is None:
                    output = np.empty(shape, dtype)
                else:
                    check_output_shape(self.where, name, output, shape)
                outputs.append(output)
            final = native.run([_address(output) for output in outputs])
            if final == shapes and self._deciding is not None and self._deciding <= dims.keys():
                self._repeat = Repeat(
                    tuple(
                        (tensor.name, array.dtype, array.shape)
                        for tensor, array in zip(self.manifest.inputs, inputs, strict=True)
                    ),
                    tuple(zip(self._output_names, self._output_types, shapes, strict=True)),
                )
        return [
            _trim(output, shape, self._output_names[index] in bound)
            for index, (output, shape) in enumerate(zip(outputs, final, strict=True))
        ]

    def _open_session(self) -> Engine:
        if self._native is None:
            raise ExecutionError(self.where, "the session is closed", "", "load the artifact again")
        return self._native


def _node(tensor: TensorInfo) -> NodeArg:
    onnx_name = ELEMENT_TYPES[tensor.dtype].onnx
    return NodeArg(tensor.name, f"tensor({onnx_name})", list(tensor.shape))


def _address(array: Array) -> int:
    return int(array.__array_interface__["data"][0])


def _trim(output: Array, shape: Shape, keep: bool) -> Array:
    """The first elements of `output` as `shape`, when the final shape came out smaller."""
    if output.shape == shape:
        return output
    first = output.reshape(-1)[: int(np.prod(shape))].reshape(shape)
    # A copy lets go of the upper bound's memory; a bound array stays the caller's own.
    return first if keep else first.copy()
