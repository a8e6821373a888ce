"""The classes of tasks that kernel families answer, and how to fill them in.

A class is known by its fields: ``k`` and ``n`` are a matrix product's, ``channels`` a
convolution's, ``head_dim`` an attention's, ``batch_rank`` a batched product's. ``a``, ``b`` and
``out`` are the element types of products of integers, each with the epilogue that leads to ``out``.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import tilewright.backends.kernels as package
from tilewright.backends.kernels.registry import families
from tilewright.backends.llvm.epilogue import IDENTITY, Epilogue, Extra, Step

FORMS = {
    "k": "matmul",
    "channels": "conv",
    "head_dim": "attention",
    "batch_rank": "batched",
    "reading": "reduction",
}
"""What a task with such a field is."""

SHARED = f"{package.__name__}.tasks"

FLOATS = {
    "": IDENTITY,
    "bias": Epilogue((Extra("row"),), (Step("add", (0, 1)),), 2),
    "bias gelu": Epilogue((Extra("row"),), (Step("add", (0, 1)), Step("gelu_erf", (2,))), 3),
    "bias relu": Epilogue((Extra("row"),), (Step("add", (0, 1)), Step("relu", (2,))), 3),
}

_SCALED = (Step("convert", (0,)), Step("mul", (3, 1)), Step("add", (4, 2)))
INTEGERS = (
    # types of A, B and C, and what makes C of the sums: nothing; a scale and a bias for each
    # column; the same and a zero point, cut off at the limits of the type
    ("u8", "s8", "f32", Epilogue((Extra("row"), Extra("row")), _SCALED, 5)),
    ("u8", "s8", "u8", Epilogue((Extra("row"), Extra("row")), (*_SCALED, Step("round", (5,))), 6)),
    ("s8", "s8", "i32", IDENTITY),
    ("u8", "u8", "i32", IDENTITY),
)


class Kind:
    """A class of tasks: its form (of FORMS), its name in words, whether it has element types and
    whether it is one of kernels.tasks, which several families share."""

    def __init__(self, task: type) -> None:
        self.task = task
        self.names = frozenset(f.name for f in fields(task))
        self.form = next((form for name, form in FORMS.items() if name in self.names), "")
        if not self.form:
            raise TypeError(f"{task.__name__} is a task of a form that cost_tasks.FORMS lacks")
        words = re.findall("[A-Z][a-z0-9]*", task.__name__)
        self.label = " ".join(words[: words.index("Task")]).lower()
        self.typed = {"a", "b", "out"} <= self.names
        self.shared = task.__module__ == SHARED

    def make(self, turn: int, epilogue: str, **values: Any) -> Iterator[tuple[Any, str]]:
        """Tasks with ``values`` and an epilogue of FLOATS, and their element types in words. Of
        several sets of types the one whose turn it is."""
        found = {name: value for name, value in values.items() if name in self.names}
        if self.typed:
            a, b, out, after = INTEGERS[turn % len(INTEGERS)]
            yield self.task(**found, a=a, b=b, out=out, epilogue=after), f"{a} {b} {out}"
        elif "epilogue" in self.names:
            yield self.task(**found, epilogue=FLOATS[epilogue]), ""
        else:
            yield self.task(**found), ""


@cache
def kinds() -> tuple[Kind, ...]:
    """Every class of tasks below backends.kernels but those of GPU families alone, by name; those
    of f32 first."""
    found: dict[type, None] = {}
    gpu = tuple(f"{package.__name__}.{name}." for name, f in families().items() if f.emit is None)
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if info.name.startswith(gpu):
            continue
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if (
                isinstance(value, type)
                and is_dataclass(value)
                and value.__module__ == module.__name__
                and value.__name__.endswith("Task")
                and hasattr(value, "operands")
            ):
                found[value] = None
    ordered = sorted(found, key=lambda task: (task.__module__ != SHARED, task.__name__))
    return tuple(Kind(task) for task in ordered)
