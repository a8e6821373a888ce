"""Questions that lowering asks: which of several kernels runs an operation.

A graph is lowered twice. The first lowering takes any candidate and records the questions; the
selection answers all of them together; the second lowering follows the answers.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tilewright.backends.kernels.candidates import Candidate
from tilewright.compiler.ir.dims import Dim

Key = tuple[Any, tuple[Dim, ...], str, int]
"""A question without its candidates: task, dims, constant, and which one of equal ones it is."""

Answers = Mapping[Key, Any]
"""The spec chosen for each question; a question that is not launched has none."""

Part = tuple[str, str]
"""ONNX nodes of an operation and name of its constant ("" if there is none)."""

Way = tuple[int, ...]
"""Questions by number that are launched together."""


@dataclass(frozen=True)
class Question:
    """One launch and all kernels that may run it.

    task, dims: of the launch (backends.kernels.tasks), dims as expressions. parts: the operations
    that it computes; their constants are packed side by side for the kernel. stored: what their
    bytes are before packing, equal for equal ones. repeat: how many equal questions came before.
    """

    task: Any
    dims: tuple[Dim, ...]
    parts: tuple[Part, ...]
    stored: tuple[Hashable, ...]
    repeat: int
    candidates: tuple[Candidate, ...]

    @property
    def source(self) -> str:
        """All ONNX nodes."""
        return ", ".join(source for source, _ in self.parts if source)

    @property
    def constant(self) -> str:
        """Names of the constants; empty if there are none."""
        return "+".join(constant for _, constant in self.parts)

    @property
    def key(self) -> Key:
        return (self.task, self.dims, self.constant, self.repeat)

    def candidate(self, answers: Answers) -> Candidate:
        """The one that `answers` names, the first if they do not know the question."""
        spec = answers.get(self.key)
        return next((c for c in self.candidates if c.spec == spec), self.candidates[0])


@dataclass(frozen=True)
class Region:
    """A launch that no question is about: elements, bytes and operations of each."""

    elements: Dim
    bytes: int
    operations: int


@dataclass(frozen=True)
class Fork:
    """Several ways to launch the same operations, of which one is taken. Each of its questions is
    part of one way or more, and is not launched where another way is taken. regions: what a way
    launches beside its questions, () if none of them does."""

    ways: tuple[Way, ...]
    regions: tuple[Region | None, ...] = ()

    @property
    def questions(self) -> tuple[int, ...]:
        """All of them, once."""
        return tuple(dict.fromkeys(n for way in self.ways for n in way))


class Choices:
    """Takes questions; answers those that `answers` knows, others with the first candidate."""

    def __init__(self, answers: Answers | None = None) -> None:
        self.answers = answers or {}
        self.questions: list[Question] = []
        self.forks: list[Fork] = []
        self._left: set[int] = set()
        self._seen: dict[Hashable, int] = {}

    def ask(
        self,
        task: Any,
        dims: tuple[Dim, ...],
        parts: tuple[Part, ...],
        stored: tuple[Hashable, ...],
        candidates: tuple[Candidate, ...],
    ) -> Candidate:
        """The candidate that runs this launch; the question is kept."""
        like = (task, dims, tuple(constant for _, constant in parts))
        repeat = self._seen[like] = self._seen.get(like, -1) + 1
        question = Question(task, dims, parts, stored, repeat, candidates)
        self.questions.append(question)
        return question.candidate(self.answers)

    def fork(self, ways: Sequence[Way], regions: Sequence[Region | None] = ()) -> Way:
        """The way to launch what questions just asked about: the first of which all are answered,
        the very first before there are answers; the fork is kept."""
        fork = Fork(tuple(ways), tuple(regions))
        keys = [[self.questions[n].key for n in way] for way in ways]
        known = (w for w, k in zip(ways, keys, strict=True) if all(a in self.answers for a in k))
        taken = next(known, ways[0])
        self.forks.append(fork)
        self._left |= set(fork.questions) - set(taken)
        return taken

    def answer(self, number: int) -> Candidate:
        """The kernel of a question."""
        return self.questions[number].candidate(self.answers)

    @property
    def launched(self) -> list[Question]:
        """All but those of ways that are not taken."""
        return [q for n, q in enumerate(self.questions) if n not in self._left]
