"""The manifest's schema, its expressions, element types; import time and imports."""

import dataclasses
import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_artifact import MANIFEST

from tilewright.runtime import FeedError
from tilewright.runtime.dtypes import ELEMENT_TYPES, accepted_dtypes, array_dtype
from tilewright.runtime.expressions import ExpressionError, evaluate, names
from tilewright.runtime.feeds import check_array
from tilewright.runtime.manifest import (
    FormatError,
    Launch,
    ManifestError,
    TensorInfo,
    check,
    from_json,
)

MODULES = {
    "binding",
    "caches",
    "container",
    "cpu",
    "dtypes",
    "engine",
    "errors",
    "expressions",
    "fields",
    "feeds",
    "loader",
    "manifest",
    "native",
    "profile",
    "repeat",
    "session",
    "variants",
}
SIZE = "expected a size or an expression"


def document():
    return json.loads(MANIFEST.to_json())


def test_round_trip():
    assert from_json(MANIFEST.to_json()) == MANIFEST
    assert document()["format"] == 1


def test_a_variant_may_have_launches_of_its_own():
    (variant, *others) = MANIFEST.variants
    own = dataclasses.replace(variant, launches=(Launch("kernel", "node", "2*n", "8"), Launch("b")))
    manifest = dataclasses.replace(MANIFEST, variants=(own, *others))
    assert from_json(manifest.to_json()) == manifest


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", 2, "format 2; this version reads format 1"),
        ("abi", 9, "abi 9; this version reads abi 1"),
        ("format", None, "format: missing"),
        ("name", 5, "name: expected a string; found 5"),
        ("inputs", {}, "inputs: expected a list; found {}"),
        ("inputs.0", 3, "inputs[0]: expected an object; found 3"),
        ("inputs.0.name", None, "inputs[0].name: missing"),
        ("inputs.1.name", "x", "inputs[1].name: 'x' occurs twice"),
        ("inputs.0.shape.1", -4, f"inputs[0].shape[1]: {SIZE}; found -4"),
        ("inputs.0.shape.1", "a b", "inputs[0].shape[1]: 'a b' is no expression: unexpected 'b'"),
        ("inputs.0.shape.0", True, f"inputs[0].shape[0]: {SIZE}; found True"),
        ("inputs.0.shape", [1] * 65, "inputs[0].shape: rank 65 is over 64"),
        ("dims.seq", [3, 1], "dims.seq: expected [least, greatest or null]; found [3, 1]"),
        ("variants", [], "variants: expected at least one"),
        ("variants.0.features.0", 1, "variants[0].features[0]: expected a string; found 1"),
        ("weights.base", -1, "weights.base: expected 0 or more; found -1"),
        ("weights.base", "0", "weights.base: expected an integer; found '0'"),
        ("errors", {"x": "y"}, "errors: expected a number as key; found 'x'"),
        ("metadata", {"k": 1}, "metadata.k: expected a string; found 1"),
    ],
)  # fmt: skip
def test_schema_errors(path, value, message):
    root = document()
    *parents, last = [int(key) if key.isdecimal() else key for key in path.split(".")]
    place = root
    for key in parents:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    with pytest.raises(ManifestError) as error:
        from_json(json.dumps(root).encode())
    assert str(error.value) == message
    assert isinstance(error.value, FormatError) == message.startswith(("format 2", "abi 9"))


def test_text_that_is_no_json():
    with pytest.raises(ManifestError) as error:
        from_json(b"{")
    assert str(error.value).startswith("not JSON: Expecting property name")
    for text in (b"[" * 100_000, b"\xff\xfe", b"3"):
        with pytest.raises(ManifestError):
            from_json(text)


def test_the_writer_checks_what_it_writes():
    twice = dataclasses.replace(MANIFEST, inputs=MANIFEST.inputs[:1] * 2)
    with pytest.raises(ManifestError, match=r"inputs\[1\]\.name: 'x' occurs twice"):
        check(twice)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("2*seq + 1", 15),
        ("-seq + 3", -4),
        ("seq - 2 - 1", 4),
        ("(seq + 1)*(seq - 1) // 5 % 4", 1),
        ("min(seq, 3, batch) + max(seq, batch)", 9),
        ("ceildiv(seq, 2) + floordiv(seq, 2) - mod(seq, 4)", 4),
        ("floordiv(-seq, 2)", -4),
        (" seq\t* batch ", 14),
    ],
)
def test_expressions(text, value):
    assert evaluate(text, {"seq": 7, "batch": 2}) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no expression: unexpected its end"),
        ("seq seq", "'seq seq' is no expression: unexpected 'seq'"),
        ("seq ** 2", "'seq ** 2' is no expression: unexpected '*'"),
        ("(seq", "'(seq' is no expression: expected ')', found its end"),
        ("seq.__class__()", "'seq.__class__()' is no expression: unexpected ')'"),
        ("open(seq)", "'open(seq)' calls unknown function 'open'"),
        ("mod(seq)", "'mod(seq)': mod takes 2 values, not 1"),
        ("seq @ 2", "'seq @ 2' is no expression: '@ 2'"),
        ("rows", "'rows' uses 'rows', which has no value"),
        ("1 // (seq - 7)", "'1 // (seq - 7)' divides by zero"),
        ("(" * 60 + "1" + ")" * 60, "an expression is nested deeper than 50"),
    ],
)
def test_expression_errors(text, message):
    with pytest.raises(ExpressionError) as error:
        evaluate(text, {"seq": 7})
    assert str(error.value) == message


def test_names():
    assert names("2*seq + min(batch, 4) // heads") == {"seq", "batch", "heads"}


_TREES = st.recursive(
    st.integers(0, 99).map(str) | st.sampled_from(["a", "b"]),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner).map(
        lambda t: f"({t[0]} {t[1]} {t[2]})"
    ),
    max_leaves=8,
)


@given(_TREES, st.integers(1, 50), st.integers(1, 50))
def test_expressions_mean_what_python_means(text, a, b):
    try:
        want = eval(text, {"a": a, "b": b})
    except ZeroDivisionError:
        with pytest.raises(ExpressionError):
            evaluate(text, {"a": a, "b": b})
    else:
        assert evaluate(text, {"a": a, "b": b}) == want


@pytest.mark.parametrize("name", sorted(ELEMENT_TYPES))
def test_element_types(name):
    tensor = TensorInfo("x", name, (3,))
    for dtype in accepted_dtypes(name):
        array = np.zeros(3, dtype)
        assert check_array("m.tw", tensor, array) is array
        assert array.itemsize == ELEMENT_TYPES[name].bytes


def test_extended_types_are_those_of_ml_dtypes_or_plain_bits():
    assert array_dtype("bf16") == ml_dtypes.bfloat16
    assert array_dtype("u4") == ml_dtypes.uint4
    program = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "from tilewright.runtime.dtypes import array_dtype\n"
        "assert [str(array_dtype(n)) for n in ('bf16', 'f8e4m3fn', 'i4')] \\\n"
        "    == ['uint16', 'uint8', 'int8']\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_values_that_do_not_fit_a_sub_byte_type():
    with pytest.raises(FeedError) as error:
        check_array("m.tw", TensorInfo("q", "i4", (3,)), np.array([-8, 7, 9], np.int8))
    assert str(error.value) == (
        "m.tw: input 'q': values do not fit i4\n  expected -8 to 7, found -8 to 9\n"
        "  try: clip the array"
    )
    fits = np.array([-8, 7, 0], ml_dtypes.int4)
    assert check_array("m.tw", TensorInfo("q", "i4", (3,)), fits) is fits


def test_zero_dimensional_feeds():
    scalar = TensorInfo("s", "f32", ())
    assert check_array("m.tw", scalar, np.float32(3)).shape == ()
    assert check_array("m.tw", scalar, np.array(3, np.float32)).shape == ()


def test_importing_costs_little_beyond_numpy():
    """Modules that the runtime must not pull in; time itself is not asserted on shared machines."""
    program = (
        "import sys, numpy; before = set(sys.modules); import tilewright.runtime\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    new = done.stdout.split()
    heavy = {"zipfile", "hashlib", "json", "importlib.metadata", "asyncio", "email", "ssl"}
    assert not heavy & set(new)
    assert {name for name in new if name.startswith("tilewright.")} == {
        "tilewright.runtime",
        *(f"tilewright.runtime.{name}" for name in MODULES),
    }
