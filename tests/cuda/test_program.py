"""The program of a CUDA variant: read, sizes evaluated, damage named."""

import json

import pytest
from support import tiny_cuda

from tilewright.runtime import ArtifactError
from tilewright.runtime.cuda.program import Branch, Copy, Launch, Repeat, formula_names
from tilewright.runtime.cuda.reader import read_program
from tilewright.runtime.cuda.sizes import Formulas, compiled
from tilewright.runtime.expressions import ExpressionError, evaluate


def text(change=lambda document: None, counts=True):
    document = tiny_cuda.program(counts, (100, 0))
    change(document)
    return json.dumps(document).encode()


def test_everything_is_read():
    found = read_program("model.tw", text())
    kinds = [Launch, Launch, Launch, Repeat, Copy, Launch, Branch]
    assert [type(step) for step in found.steps] == kinds
    assert not found.fixed
    assert found.slots == {"seq": 0, "n": 1, "i": 2}
    assert found.steps[2].counts == (1,)
    assert [symbol.upper for symbol in found.symbols] == [0, "seq"]
    assert found.kernels[2].entries[0].maps[0].box == (64, 8)
    assert read_program("model.tw", text(counts=False)).fixed


def test_formulas_in_one_call():
    kernel = read_program("model.tw", text()).kernels[2]
    # dims p0; units, sms; addresses of three operands
    names = {name: i for i, name in enumerate(formula_names(1, 3))}
    values = compiled(kernel.formulas, names)((20, 20, 132, 0, 0, 0))
    assert values == (0, 4, 1, 1, 2056, 64, 20, 256, 0)


EXPRESSIONS = [
    "7", "a", "-a*b", "a//b - -3", "a % b + (a - b)*2", "min(a, b, 4)", "max(a)",
    "ceildiv(a*b + 1, 3)", "mod(a, 3) + floordiv(b, 2) + mul(a, b)", "- -a", "a-b-1",
]  # fmt: skip


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_sizes_are_what_the_grammar_says(expression):
    function = compiled([expression, 5, "b"], {"b": 1, "a": 0})
    for a, b in [(3, 7), (100, 3), (1, 1), (12, 64)]:
        assert function([a, b]) == (evaluate(expression, {"a": a, "b": b}), 5, b)


def test_one_function_of_all_sizes_computes_each_part_once():
    """Names may stand for other expressions; what is long becomes several statements."""
    made = Formulas(2)
    seq, base = made.argument(0, 1), made.argument(1, 0)
    square = made.size("seq*seq + 1", {"seq": seq})
    again = made.size("seq*seq + 1", {"seq": seq})
    assert square == again
    long = "n" + "+ max(n, 3) * n % 7 - 1" * 200
    nested = made.size(long, {"n": square})
    address = made.operation("+", base, nested)
    wanted = [address, made.operation("%", address, made.constant(256)), made.constant(5)]
    function = made.function(wanted)
    for number in (2, 9, 50):
        value = evaluate(long, {"n": number * number + 1})
        expected = 4096 + value
        assert function([0, number], [4096]) == (expected, expected % 256, 5)
    assert len(function.__code__.co_names) == 1  # max
    with pytest.raises(ZeroDivisionError):
        made.function([made.size("1 // n", {"n": seq})])([0, 0], [])


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("c", "'c' uses 'c', which has no value"),
        ("a.real", "'a.real' is no expression"),
        ("__import__('os')", "\"__import__('os')\" calls unknown function '__import__'"),
        ("open(a)", "'open(a)' calls unknown function 'open'"),
        ("a/b", "'a/b' is no expression"),
        ("a**b", "'a**b' is no expression"),
        ("a if b else a", "'a if b else a' is no expression"),
        ("[a]", "'[a]' is no expression"),
        ("1.5", "'1.5' is no expression"),
        ("", "'' is no expression"),
        ("True", "'True' is no expression"),
        ("mod(a)", "'mod(a)': mod takes 2 values, not 1"),
        ("min()", "'min()': min takes 2 values, not 0"),
        ("min(a, b=b)", "'min(a, b=b)' is no expression"),
        ("(" * 3000 + "a" + ")" * 3000, "'" + "(" * 60 + "' is no expression"),
    ],
)
def test_text_that_is_no_size(expression, message):
    with pytest.raises(ExpressionError) as caught:
        compiled([expression], {"a": 0, "b": 1})
    assert str(caught.value) == message


def put(*path):
    *keys, value = path

    def change(document):
        for key in keys[:-1]:
            document = document[key]
        document[keys[-1]] = value

    return change


DAMAGE = {
    "format 2; this version reads format 1": put("format", 2),
    "code: missing": lambda d: d.pop("code"),
    "symbols: 'lambda' cannot be the name of one": put("symbols", 0, "name", "lambda"),
    "symbols: 'seq' cannot be the name of one": put("symbols", 1, "name", "seq"),
    "symbols: 'min' cannot be the name of one": put("symbols", 1, "name", "min"),
    "symbols[0].source: expected a source; found ['file', 0, 0]": (
        put("symbols", 0, "source", ["file", 0, 0])
    ),
    "symbols[0].source: expected a source; found ['shape', 0]": (
        put("symbols", 0, "source", ["shape", 0])
    ),
    "symbol 'seq': the model has no ['shape', 0, 2]": (
        put("symbols", 0, "source", ["shape", 0, 2])
    ),
    "symbol 'seq': the model has no ['value', 1, 0]": (
        put("symbols", 0, "source", ["value", 1, 0])
    ),
    "symbol 'n': 'n' uses 'n', which has no value": put("symbols", 1, "source", ["data", "n"]),
    "inputs[0].shape[0]: 'rows' uses 'rows', which has no value": (
        put("inputs", 0, "shape", ["rows", 64])
    ),
    "outputs[0].upper: expected as many sizes as in shape": put("outputs", 0, "upper", []),
    "outputs[2].upper[0]: 'n' uses 'n', which has no value": put("outputs", 2, "upper", ["n"]),
    "buffers[1]: 'n' uses 'n', which has no value": put("buffers", 1, "n"),
    "arena: expected a size; found 1.5": put("arena", 1.5),
    "errors: expected a code of 16 or more as key; found '3'": put("errors", {"3": "text"}),
    "weights[0]: expected [offset, bytes]; found [-1, 4]": put("weights", 0, [-1, 4]),
    "modules[0]: expected a cubin or PTX": put("modules", 0, {"cubin": None, "ptx": None}),
    "kernels[0].module: expected 0 to 0; found 1": put("kernels", 0, "module", 1),
    "kernels[0].entries[0].grid: expected 3 formulas; found 2": (
        put("kernels", 0, "entries", 0, "grid", ["1", "1"])
    ),
    "kernels[0].entries[0].block: expected positive integers; found [0, 1, 1]": (
        put("kernels", 0, "entries", 0, "block", [0, 1, 1])
    ),
    "kernels[0].entries[0].overlaps: expected true or false; found 1": (
        put("kernels", 0, "entries", 0, "overlaps", 1)
    ),
    "kernels[2].entries[0].maps[0]: expected dims, strides and box of one rank": (
        put("kernels", 2, "entries", 0, "maps", 0, "strides", [])
    ),
    "kernels[2].entries[0].maps[0].swizzle: expected one of (0, 32, 64, 128)": (
        put("kernels", 2, "entries", 0, "maps", 0, "swizzle", 16)
    ),
    "kernels[2].entries[0].maps[0].dtype: expected an element type; found 'f12'": (
        put("kernels", 2, "entries", 0, "maps", 0, "dtype", "f12")
    ),
    "steps[0].step: there is no step 'jump'": put("steps", 0, "step", "jump"),
    "steps[0].kernel: expected 0 to 4; found 9": put("steps", 0, "kernel", 9),
    "steps[0].operands[0]: expected a place; found ['input', 1, 0]": (
        put("steps", 0, "operands", 0, ["input", 1, 0])
    ),
    "steps[0].operands[0]: 'x' uses 'x', which has no value": (
        put("steps", 0, "operands", 0, ["input", 0, "x"])
    ),
    "steps[0].error: errors has no 17": put("steps", 0, "error", 17),
    "steps[0].kernel: scale: 'p0*256' uses 'p0', which has no value": put("steps", 0, "dims", []),
    "steps[2].counts: 'seq' is not a data symbol": put("steps", 2, "counts", ["seq"]),
    "steps[3].counter: counters has no 'j'": put("steps", 3, "counter", "j"),
    "steps[3]: a repeat needs trips or a condition": put("steps", 3, "trips", None),
    "steps[3].body: expected a list; found 1": put("steps", 3, "body", 1),
    "steps[4].source: expected a place; found None": lambda d: d["steps"][4].pop("source"),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_damage_is_named(message):
    with pytest.raises(ArtifactError) as caught:
        read_program("model.tw", text(DAMAGE[message]))
    assert str(caught.value) == (
        f"model.tw: the artifact's CUDA program is not valid\n  {message}\n"
        "  try: compile the artifact again"
    )


def test_text_that_is_not_json():
    with pytest.raises(ArtifactError, match="not JSON: Expecting value"):
        read_program("model.tw", b"<program>")
