"""Calibration samples: feeds from .npz files or a function, and a part held out to judge by."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, overload

import numpy as np

from tilewright.compiler.errors import UserError, nearest
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim, evaluate, symbols

HELD_OUT = 4
"""Every how many samples one is held out."""

HINT = "give an .npz file, a folder of them, or module:function"

Feeds = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Samples(Sequence[Feeds]):
    """Feeds by number, read when they are asked for.

    origin: what the user gave. total: how many there are; those whose number is HELD_OUT - 1
    modulo HELD_OUT are held out from calibration (the last one if there are fewer). label: what
    messages call a sample.
    """

    origin: str
    total: int
    at: Callable[[int], Feeds]
    label: Callable[[int], str]

    def _held(self, number: int) -> bool:
        return number % HELD_OUT == min(HELD_OUT, self.total) - 1

    @property
    def held_out(self) -> Samples:
        """The part to judge by."""
        return self._part([i for i in range(self.total) if self._held(i)])

    @property
    def calibration(self) -> Samples:
        """The part to calibrate on."""
        return self._part([i for i in range(self.total) if not self._held(i)])

    def _part(self, numbers: Sequence[int]) -> Samples:
        return Samples(
            self.origin,
            len(numbers),
            lambda i: self.at(numbers[i]),
            lambda i: self.label(numbers[i]),
        )

    def __len__(self) -> int:
        return self.total

    @overload
    def __getitem__(self, number: int) -> Feeds: ...
    @overload
    def __getitem__(self, number: slice) -> list[Feeds]: ...
    def __getitem__(self, number: int | slice) -> Feeds | list[Feeds]:
        if isinstance(number, slice):
            return [self.at(i) for i in range(self.total)[number]]
        if not 0 <= number < self.total:
            raise IndexError(number)
        return self.at(number)


def read_samples(source: str, inputs: Sequence[Value]) -> Samples:
    """The samples that `source` names: an .npz file, a folder of them, or `module:function`.

    An .npz file holds an array for every input of the graph. Where all arrays have one axis more
    than their inputs, that axis counts samples; else, where the first axis of all inputs is the
    same symbolic dimension, each of its elements is a sample; else the file is one sample. The
    function is called without arguments and yields a mapping of arrays for every sample.

    Raises UserError for what cannot be read, for names, types and shapes that are not the inputs',
    for values that are not finite, and for fewer than two samples.
    """
    path = Path(source)
    if ":" in source and not path.exists():
        found = _from_function(source, inputs)
    elif path.is_dir():
        found = _from_folder(path, inputs)
    else:
        found = _from_file(path, inputs)
    if found.total < 2:
        raise UserError(
            source,
            "has too few samples to calibrate",
            f"expected at least 2, one of them to judge by, found {found.total}",
            "give more samples; some dozen are usual",
        )
    return found


def _from_file(path: Path, inputs: Sequence[Value]) -> Samples:
    arrays = load_arrays(path, HINT)
    where = str(path)
    _check_names(where, arrays, inputs)
    if all(arrays[v.name].ndim == v.rank + 1 for v in inputs):
        count = _same_length(where, arrays)
        rows = [{name: a[i] for name, a in arrays.items()} for i in range(count)]
    elif _batched(inputs) and all(arrays[v.name].ndim == v.rank for v in inputs):
        count = _same_length(where, arrays)
        rows = [{name: a[i : i + 1] for name, a in arrays.items()} for i in range(count)]
    else:
        rows = [arrays]
    return _numbered(where, rows, inputs)


def _from_folder(folder: Path, inputs: Sequence[Value]) -> Samples:
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise UserError(
            str(folder), "has no samples", "expected .npz files, found none", "write one a sample"
        )
    return Samples(
        str(folder),
        len(files),
        cache(lambda i: _checked(str(files[i]), load_arrays(files[i], HINT), inputs)),
        lambda i: str(files[i]),
    )


def _numbered(where: str, rows: Sequence[Feeds], inputs: Sequence[Value]) -> Samples:
    def label(number: int) -> str:
        return f"{where}, sample {number}"

    return Samples(where, len(rows), lambda i: _checked(label(i), rows[i], inputs), label)


def named_function(source: str, hint: str) -> Callable[..., Any]:
    """The function that `module:function` names.

    Raises UserError, with `hint` where there is no such module.
    """
    module_name, _, function_name = source.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        found = f"Python says: {missing}"
        raise UserError(source, "there is no such file or module", found, hint) from None
    function: object = getattr(module, function_name, None)
    if not callable(function):
        known = [n for n in vars(module) if callable(getattr(module, n)) and n[0] != "_"]
        what = f"module {module_name} has no function {function_name!r}"
        raise UserError(source, what, hint=nearest(function_name, known) if known else "")
    return function


def _from_function(source: str, inputs: Sequence[Value]) -> Samples:
    hint = "give the path of an .npz file or folder, or make the module importable"
    function = named_function(source, hint)
    rows: list[dict[str, np.ndarray]] = []
    for i, feeds in enumerate(function()):
        if not isinstance(feeds, Mapping):
            found = f"expected a mapping of input names to arrays, found {type(feeds).__name__}"
            raise UserError(f"{source}, sample {i}", "is no set of feeds", found)
        rows.append({name: np.asarray(a) for name, a in feeds.items()})
    return _numbered(source, rows, inputs)


def load_arrays(path: Path, hint: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name; UserError, with ``hint``, for one that cannot be read."""
    try:
        loaded: Any = np.load(path, allow_pickle=False)  # no pickles: they run code
        if isinstance(loaded, np.ndarray):
            found, how = "it holds one array without a name", "write it with numpy.savez"
            raise UserError(str(path), "is not an .npz file", found, how)
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as refusal:
        found = f"the system says: {refusal.strerror or refusal}"
        raise UserError(str(path), "cannot be read", found, hint) from None
    except (ValueError, EOFError, zipfile.BadZipFile) as damage:
        found = str(damage).partition("\n")[0]
        how = "write it with numpy.savez"
        raise UserError(str(path), "is not an .npz file of plain arrays", found, how) from None


def _check_names(where: str, feeds: Feeds, inputs: Sequence[Value]) -> None:
    names = [v.name for v in inputs]
    for name in feeds:
        if name not in names:
            raise UserError(where, f"unknown input {name!r}", hint=nearest(name, names))
    missing = [name for name in names if name not in feeds]
    if missing:
        found = f"expected {', '.join(names)}, found {', '.join(feeds) or 'none'}"
        raise UserError(where, f"input {missing[0]!r} is missing", found)


def _same_length(where: str, arrays: Feeds) -> int:
    lengths = {name: len(a) for name, a in arrays.items()}
    if len(set(lengths.values())) != 1:
        found = ", ".join(f"{name}: {size}" for name, size in lengths.items())
        raise UserError(where, "inputs have different numbers of samples", f"found {found}")
    return next(iter(lengths.values()))


def _batched(inputs: Sequence[Value]) -> bool:
    """Whether the first axis of all inputs is one symbolic dimension that may be 1."""
    first = {v.shape[0] if v.rank else 0 for v in inputs}
    return len(first) == 1 and not isinstance(next(iter(first)), int)


def _checked(where: str, feeds: Feeds, inputs: Sequence[Value]) -> Feeds:
    """`feeds` with the inputs' element types; shapes are compared where they are known."""
    _check_names(where, feeds, inputs)
    made: dict[str, np.ndarray] = {}
    sizes: dict[str, int] = {}
    for value in inputs:
        array, name = feeds[value.name], f"input {value.name!r}"
        if array.ndim != value.rank or not all(
            _fits(d, n, sizes) for d, n in zip(value.shape, array.shape, strict=True)
        ):
            want = ", ".join(str(d) for d in value.shape)
            found = f"expected [{want}], found {list(array.shape)}"
            raise UserError(where, f"{name} has the wrong shape", found)
        if array.dtype != value.dtype.numpy:
            found = f"expected {value.dtype.numpy}, found {array.dtype}"
            hint = f"convert it: array.astype({str(value.dtype.numpy)!r})"
            raise UserError(where, f"{name} has the wrong type", found, hint)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(where, f"{name} has infinite or NaN values")
        made[value.name] = np.ascontiguousarray(array)
    return made


def _fits(dim: Dim, size: int, sizes: dict[str, int]) -> bool:
    """Whether an axis may have `size`; symbols seen for the first time take their value."""
    if isinstance(dim, int):
        return dim == size
    names = symbols(dim)
    if all(name in sizes for name in names):
        return evaluate(dim, sizes) == size
    if len(names) == 1 and str(dim) == next(iter(names)):
        sizes[next(iter(names))] = size
    return True
