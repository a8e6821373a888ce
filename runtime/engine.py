"""What a session needs of the code that it runs: a model of the CPU or of a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

Shape = tuple[int, ...]


class Engine(Protocol):
    """`runtime.native.NativeSession` and `runtime.cuda.session.CudaSession`, which say more."""

    @property
    def close(self) -> Callable[[], object]:
        """Frees everything; the engine is of no use afterwards."""

    def set_input(self, index: int, address: int, shape: Shape) -> None:
        """Point input `index` to memory of the caller."""

    def shapes(self) -> list[Shape]:
        """Shapes (upper bounds where they depend on data) of the outputs for the set inputs."""

    def run(self, outputs: Sequence[int]) -> list[Shape]:
        """Run into the buffers at these addresses; the final shapes."""

    def run_again(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Run with shapes as they were at the last `run`, arrays at these addresses."""

    def arena_bytes(self) -> int:
        """Bytes of scratch memory that are held."""

    def start_profile(self, launches: int) -> None:
        """Count time and calls of each launch from now on."""

    def stop_profile(self) -> tuple[list[int], list[int]]:
        """Nanoseconds and calls of each launch since `start_profile`."""
