"""Questions that lowering asks: which of several kernels runs an operation.

A graph is lowered twice. The first lowering takes any candidate and records the questions; the
selection answers all of them together; the second lowering follows the answers.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.candidates import Candidate
from tilewright.compiler.ir.dims import Dim

Key = tuple[Any, tuple[Dim, ...], str, int]
"""A question without its candidates: task, dims, constant, and which one of equal ones it is."""

Answers = Mapping[Key, Any]
"""The spec chosen for each question."""


@dataclass(frozen=True)
class Question:
    """One operation and all kernels that may run it.

    task, dims: of the launch (backends.kernels.tasks), dims as expressions. constant: name of the
    weight that is packed for the kernel ("" if there is none); stored: what its bytes are before
    packing, equal for equal ones. repeat: how many equal questions came before.
    """

    task: Any
    dims: tuple[Dim, ...]
    constant: str
    stored: tuple[Hashable, ...]
    repeat: int
    source: str
    candidates: tuple[Candidate, ...]

    @property
    def key(self) -> Key:
        return (self.task, self.dims, self.constant, self.repeat)

    def candidate(self, answers: Answers) -> Candidate:
        """The one that `answers` names, the first if they do not know the question."""
        spec = answers.get(self.key)
        return next((c for c in self.candidates if c.spec == spec), self.candidates[0])


class Choices:
    """Takes questions; answers those that `answers` knows, others with the first candidate."""

    def __init__(self, answers: Answers | None = None) -> None:
        self.answers = answers or {}
        self.questions: list[Question] = []
        self._seen: dict[Hashable, int] = {}

    def ask(
        self,
        task: Any,
        dims: tuple[Dim, ...],
        constant: str,
        stored: tuple[Hashable, ...],
        source: str,
        candidates: tuple[Candidate, ...],
    ) -> Candidate:
        """The candidate that runs this operation; the question is kept."""
        like = (task, dims, constant)
        repeat = self._seen[like] = self._seen.get(like, -1) + 1
        question = Question(task, dims, constant, stored, repeat, source, candidates)
        self.questions.append(question)
        return question.candidate(self.answers)
