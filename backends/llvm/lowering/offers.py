"""What an error contract offers a lowering: formats of weights, and the errors that they make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tilewright.compiler.formats.format import Encoded

Squares = tuple[float, ...]
"""Of every output, a squared relative L2 error."""


class Offers(Protocol):
    """Formats and predicted errors of the contractions of one calibrated graph.

    A contraction is known by its ONNX nodes and the name of its weight.
    """

    @property
    def limits(self) -> Squares:
        """What all squares together may come to, by output."""

    def permits(self, source: str, constant: str, numerics: str) -> bool:
        """Whether an operation may run in these numerics (`Candidate.numerics`)."""

    def formats(self, source: str, constant: str) -> frozenset[str]:
        """Weight formats that a contraction may take."""

    def encoded(self, source: str, constant: str, name: str) -> Encoded:
        """The weights of a contraction in a format."""

    def squares(self, source: str, constant: str, numerics: str) -> Squares | None:
        """What a contraction adds to the outputs' errors; None for what was not calibrated."""

    def lost(self, source: str, constant: str, numerics: str) -> float | None:
        """The part of the energy of its own results that a contraction loses in a weight format;
        None where that was not judged."""

    def floor(self, source: str, constant: str, numerics: str) -> Squares | None:
        """What `squares` is at least; None where it is known or takes no time to find."""

    def basis(self, source: str, constant: str, numerics: str) -> str:
        """What `squares` is judged by so far: ``"all"`` weights, some ``"columns"``, nothing
        (``""``)."""

    def settle(self, choices: Iterable[tuple[str, str, str]]) -> bool:
        """Replace estimates of choices (nodes, weight, numerics); whether there was any."""

    def others(self, numerics: str) -> Squares:
        """What all operations that were not calibrated add together."""
