"""Reads a program and checks it: what has been read needs no checks when it runs."""

from __future__ import annotations

import json
import keyword
from collections.abc import Mapping, Sequence
from typing import Any

from tilewright.runtime.cuda.program import (
    FORMAT,
    MAP_TYPES,
    PLACES,
    WORKSPACE,
    Branch,
    Constraint,
    Copy,
    Entry,
    Extent,
    Kernel,
    Launch,
    Module,
    Output,
    Place,
    Program,
    Repeat,
    Step,
    Symbol,
    TensorMap,
    formula_names,
)
from tilewright.runtime.cuda.sizes import Size, check
from tilewright.runtime.errors import ArtifactError
from tilewright.runtime.expressions import FUNCTIONS, ExpressionError
from tilewright.runtime.fields import FieldError, Fields

_SOURCES = {"shape": (int, int), "value": (int, int), "data": (int | str,)}
_SWIZZLES = (0, 32, 64, 128)


def read_program(where: str, data: bytes | memoryview) -> Program:
    """The program in the JSON text `data`; ArtifactError when it is not one that can run."""
    try:
        return _Reader(bytes(data)).program()
    except (FieldError, ExpressionError) as wrong:
        raise ArtifactError(
            where,
            "the artifact's CUDA program is not valid",
            str(wrong),
            "compile the artifact again",
        ) from None


class _Reader:
    def __init__(self, data: bytes) -> None:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError) as damage:
            raise FieldError(f"not JSON: {damage}") from None
        self.root = Fields(document, "")
        found = self.root.integer("format")
        if found != FORMAT:
            raise FieldError(f"format {found}; this version reads format {FORMAT}")

    def program(self) -> Program:
        root = self.root
        symbols = tuple(self._symbol(item) for item in root.children("symbols"))
        counters = tuple(root.texts("counters"))
        names = [symbol.name for symbol in symbols] + list(counters)
        self.slots = {name: slot for slot, name in enumerate(names)}
        self._check_names(names)
        data = {symbol.name for symbol in symbols if symbol.data}
        self.data = data
        self.fixed = {n: i for n, i in self.slots.items() if n not in data | set(counters)}
        self.counters = set(counters)
        for symbol in symbols:
            self._size(symbol.upper, f"symbol {symbol.name!r}", self.fixed)
        self.errors = {_code(key): text for key, text in root.child("errors").text_items()}
        self.weights = tuple(
            _extent(value, f"weights[{i}]") for i, value in enumerate(root.sequence("weights"))
        )
        self.inputs = tuple(
            self._sizes(item, "shape", self.fixed) for item in root.children("inputs")
        )
        self.outputs = tuple(self._output(item) for item in root.children("outputs"))
        for symbol in symbols:
            self._check_source(symbol)
        self.buffers = self._sizes(root, "buffers", self.fixed)
        self.modules = tuple(_module(item) for item in root.children("modules"))
        self.kernels = tuple(self._kernel(item) for item in root.children("kernels"))
        return Program(
            code=root.text("code"),
            symbols=symbols,
            counters=counters,
            slots=self.slots,
            inputs=self.inputs,
            outputs=self.outputs,
            constraints=tuple(self._constraint(item) for item in root.children("constraints")),
            errors=self.errors,
            arena=self._get_size(root, "arena", self.fixed),
            buffers=self.buffers,
            weights=self.weights,
            modules=self.modules,
            kernels=self.kernels,
            steps=self._steps(root, "steps"),
        )

    # Sizes -------------------------------------------------------------------------------

    def _check_names(self, names: Sequence[str]) -> None:
        for i, name in enumerate(names):
            good = name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
            if not good or name in FUNCTIONS or name in names[:i]:
                raise FieldError(f"symbols: {name!r} cannot be the name of one")

    def _size(self, value: Any, place: str, names: Mapping[str, int]) -> Size:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise FieldError(f"{place}: expected a size; found {value!r:.40}")
        try:
            check(value, names)
        except ExpressionError as wrong:
            raise FieldError(f"{place}: {wrong}") from None
        return value

    def _get_size(self, item: Fields, key: str, names: Mapping[str, int]) -> Size:
        if key not in item.value:
            raise FieldError(f"{item.path(key)}: missing")
        return self._size(item.value[key], item.path(key), names)

    def _sizes(self, item: Fields, key: str, names: Mapping[str, int]) -> tuple[Size, ...]:
        values = item.sequence(key)
        return tuple(self._size(v, f"{item.path(key)}[{i}]", names) for i, v in enumerate(values))

    # Parts -------------------------------------------------------------------------------

    def _symbol(self, item: Fields) -> Symbol:
        source = item.sequence("source")
        kinds = _SOURCES.get(source[0]) if source and isinstance(source[0], str) else None
        rest = source[1:]
        fits = kinds is not None and len(rest) == len(kinds)
        if kinds is None or not fits or not all(map(_is, rest, kinds)):
            raise FieldError(f"{item.path('source')}: expected a source; found {source!r:.60}")
        high = None if item.value.get("high") is None else item.integer("high")
        return Symbol(item.text("name"), tuple(source), item.integer("low"), high)

    def _check_source(self, symbol: Symbol) -> None:
        if symbol.data:
            return
        index, position = symbol.input, symbol.position
        axes = len(self.inputs[index]) if 0 <= index < len(self.inputs) else -1
        shape = symbol.source[0] == "shape"
        if axes < 0 or position < 0 or (shape and position >= axes):
            raise FieldError(f"symbol {symbol.name!r}: the model has no {list(symbol.source)}")

    def _output(self, item: Fields) -> Output:
        uppers = self._sizes(item, "upper", self.fixed)
        found = Output(self._sizes(item, "shape", self.slots), uppers)
        if len(found.shape) != len(found.upper):
            raise FieldError(f"{item.path('upper')}: expected as many sizes as in shape")
        return found

    def _constraint(self, item: Fields) -> Constraint:
        left, right = (self._get_size(item, key, self.fixed) for key in ("left", "right"))
        return Constraint(left, right, self._error(item.integer("error"), item.path("error")))

    def _error(self, code: int, place: str) -> int:
        if code not in self.errors:
            raise FieldError(f"{place}: errors has no {code}")
        return code

    def _kernel(self, item: Fields) -> Kernel:
        module = _index(item, "module", len(self.modules))
        workspace = _formula(item, "workspace")
        entries = tuple(_entry(entry) for entry in item.children("entries"))
        return Kernel(item.text("name"), module, workspace, entries)

    def _place(self, value: Any, place: str) -> Place:
        if isinstance(value, list) and len(value) == 3 and value[0] in PLACES:
            kind, index, offset = value
            counts = {
                "arena": len(self.buffers),
                "weight": len(self.weights),
                "input": len(self.inputs),
                "output": len(self.outputs),
            }
            if type(index) is int and 0 <= index < counts[kind]:
                return Place(kind, index, self._size(offset, place, self.slots))
        raise FieldError(f"{place}: expected a place; found {value!r:.60}")

    def _get_place(self, item: Fields, key: str) -> Place:
        return self._place(item.value.get(key), item.path(key))

    # Steps -------------------------------------------------------------------------------

    def _steps(self, item: Fields, key: str) -> tuple[Step, ...]:
        return tuple(self._step(one) for one in item.children(key))

    def _step(self, item: Fields) -> Step:
        kind = item.text("step")
        if kind == "launch":
            return self._launch(item)
        if kind == "copy":
            source, target = self._get_place(item, "source"), self._get_place(item, "target")
            return Copy(source, target, self._get_size(item, "bytes", self.slots))
        if kind == "branch":
            condition = self._get_place(item, "condition")
            return Branch(condition, self._steps(item, "then"), self._steps(item, "otherwise"))
        if kind == "repeat":
            return self._repeat(item)
        raise FieldError(f"{item.path('step')}: there is no step {kind!r}")

    def _launch(self, item: Fields) -> Launch:
        kernel = _index(item, "kernel", len(self.kernels))
        code = item.value.get("error")
        if code is not None:
            code = self._error(item.integer("error"), item.path("error"))
        operands = item.sequence("operands")
        launch = Launch(
            kernel,
            tuple(
                self._place(value, f"{item.path('operands')}[{i}]")
                for i, value in enumerate(operands)
            ),
            self._sizes(item, "dims", self.slots),
            self._get_size(item, "units", self.slots),
            code,
            tuple(self._data_symbol(name, item.path("counts")) for name in item.texts("counts")),
            item.text("label"),
        )
        self._check_formulas(launch, item)
        return launch

    def _check_formulas(self, launch: Launch, item: Fields) -> None:
        kernel = self.kernels[launch.kernel]
        try:
            names = formula_names(len(launch.dims), len(launch.operands))
            for formula in kernel.formulas:
                check(formula, names)
        except ExpressionError as wrong:
            raise FieldError(f"{item.path('kernel')}: {kernel.name}: {wrong}") from None
        for entry in kernel.entries:
            for tensor in entry.maps:
                if tensor.operand >= len(launch.operands):
                    raise FieldError(f"{item.path('operands')}: {kernel.name} maps another one")

    def _data_symbol(self, name: Any, place: str) -> int:
        if name not in self.data:
            raise FieldError(f"{place}: {name!r} is not a data symbol")
        return self.slots[name]

    def _repeat(self, item: Fields) -> Repeat:
        counter = item.text("counter")
        if counter not in self.counters:
            raise FieldError(f"{item.path('counter')}: counters has no {counter!r}")
        value = item.value
        trips = value.get("trips")
        if trips is not None:
            trips = self._get_size(item, "trips", self.slots)
        condition, length = value.get("condition"), value.get("length")
        if condition is None and trips is None:
            raise FieldError(f"{item.place}: a repeat needs trips or a condition")
        return Repeat(
            self.slots[counter],
            trips,
            None if condition is None else self._get_place(item, "condition"),
            self._steps(item, "body"),
            None if length is None else self._data_symbol(length, item.path("length")),
        )


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _code(key: str) -> int:
    if not key.isdecimal() or len(key) > 9 or int(key) < 16:
        raise FieldError(f"errors: expected a code of 16 or more as key; found {key!r}")
    return int(key)


def _extent(value: Any, place: str) -> Extent:
    if isinstance(value, list) and len(value) == 2:
        offset, size = value
        if type(offset) is int and type(size) is int and offset >= 0 and size >= 0:
            return Extent(offset, size)
    raise FieldError(f"{place}: expected [offset, bytes]; found {value!r:.60}")


def _module(item: Fields) -> Module:
    found = [
        None if item.value.get(key) is None else _extent(item.value[key], item.path(key))
        for key in ("cubin", "ptx")
    ]
    if found == [None, None]:
        raise FieldError(f"{item.place}: expected a cubin or PTX")
    return Module(*found)


def _index(item: Fields, key: str, count: int) -> int:
    index = item.integer(key)
    if not 0 <= index < count:
        raise FieldError(f"{item.path(key)}: expected 0 to {count - 1}; found {index}")
    return index


def _formula(item: Fields, key: str) -> Size:
    value = item.value.get(key)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise FieldError(f"{item.path(key)}: expected a formula; found {value!r:.40}")
    return value


def _formulas(item: Fields, key: str) -> tuple[Size, ...]:
    values = item.sequence(key)
    for value in values:
        if not _is(value, int | str):
            raise FieldError(f"{item.path(key)}: expected formulas; found {value!r:.40}")
    return tuple(values)


def _integers(item: Fields, key: str, count: range) -> tuple[int, ...]:
    values = item.sequence(key)
    if len(values) not in count or not all(type(v) is int and v > 0 for v in values):
        raise FieldError(f"{item.path(key)}: expected positive integers; found {values!r:.60}")
    return tuple(values)


def _entry(item: Fields) -> Entry:
    grid = _formulas(item, "grid")
    if len(grid) != 3:
        raise FieldError(f"{item.path('grid')}: expected 3 formulas; found {len(grid)}")
    overlaps = item.value.get("overlaps")
    if not isinstance(overlaps, bool):
        raise FieldError(f"{item.path('overlaps')}: expected true or false; found {overlaps!r:.40}")
    return Entry(
        item.text("suffix"),
        grid,
        _integers(item, "block", range(3, 4)),
        _formula(item, "shared"),
        _integers(item, "cluster", range(3, 4)),
        overlaps,
        tuple(_tensor_map(one) for one in item.children("maps")),
    )


def _tensor_map(item: Fields) -> TensorMap:
    found = TensorMap(
        item.integer("operand"),
        item.text("dtype"),
        _formulas(item, "dims"),
        _formulas(item, "strides"),
        _integers(item, "box", range(1, 6)),
        item.integer("swizzle"),
        _formula(item, "offset"),
    )
    rank = len(found.box)
    if len(found.dims) != rank or len(found.strides) != rank - 1 or found.operand < WORKSPACE:
        raise FieldError(f"{item.place}: expected dims, strides and box of one rank")
    if found.dtype not in MAP_TYPES:
        raise FieldError(f"{item.path('dtype')}: expected an element type; found {found.dtype!r}")
    if found.swizzle not in _SWIZZLES:
        raise FieldError(f"{item.path('swizzle')}: expected one of {_SWIZZLES}")
    return found
