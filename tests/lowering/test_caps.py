"""Programs that work in little fast memory: they copy, and every bit stays."""

import random

import numpy as np
import onnx
import onnxruntime
import pytest
from support.compiled_graph import random_feeds, run_artifact
from support.draft_graph import Draft, tensor, weights
from support.fast_memory import build_within

from tilewright import load
from tilewright.backends.llvm.program import Copy
from tilewright.backends.target import parse
from tilewright.compiler.driver import compile_model, lower_for
from tilewright.compiler.errors import UserError
from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.dims import sym
from tilewright.compiler.ir.ops import binary, reduce, shape, unary
from tilewright.compiler.ir.ops.control import If, Loop
from tilewright.compiler.options import Options
from tilewright.passes.memory.caps import Caps

n = sym("n")
(TARGET,) = parse("x86-64-v3")


def random_skips(seed: int) -> Graph:
    """Steps of random widths; many results are read again much later; a branch, a loop at times."""
    r = random.Random(seed)
    d = Draft((1, 24))
    x, flag = d.input("x", "f32", "n", 16), d.input("flag", "bool")
    values: list[Value] = [x]

    def wider(value: Value, times: int) -> Value:
        return d(shape.Concat, parts=(value,) * times, axis=1)

    def narrow(value: Value) -> Value:
        width = value.shape[1]
        assert isinstance(width, int)
        start = r.randrange(width // 16)
        part = d(shape.Slice, x=value, starts=(0, start), steps=(1, width // 16), shape=(n, 16))
        return d(unary.Tanh, x=part)

    def branch(value: Value) -> Value:
        wide = wider(value, 2)
        then = d.region((), lambda: d(unary.Neg, x=d(unary.Tanh, x=wide)))
        other = d.region((), lambda: d(binary.Add, a=wide, b=d(unary.Abs, x=wide)))
        return d(If, condition=flag, then_body=then, else_body=other)

    def loop(value: Value) -> Value:
        kind = tensor("f32", "n", 16)
        yes = d.constant(np.array(True))

        def body(i: Value, carried: Value) -> tuple[Value, ...]:
            wide = d(unary.Tanh, x=d(shape.Concat, parts=(carried, value), axis=1))
            half = d(shape.Slice, x=wide, starts=(0, 8), steps=(1, 1), shape=(n, 16))
            return yes, d(binary.Sub, a=half, b=carried)

        region = d.region((tensor("i64"), kind), body)
        return d(Loop, carried=(value,), scanned=(), body=region, trips=3, condition=None)

    for _ in range(r.randint(6, 12)):
        value = r.choice(values[-2:])
        kind = r.choice(["wide", "wide", "old", "old", "branch", "loop"])
        if value.shape[1] != 16:
            value = narrow(value)
        if kind == "wide":
            made = d(unary.Sigmoid, x=wider(value, r.randint(2, 9)))
        elif kind == "old":
            other = r.choice(values)
            made = d(binary.Mul, a=value, b=other if other.shape[1] == 16 else narrow(other))
        else:
            made = branch(value) if kind == "branch" else loop(value)
        values.append(made)
    total = narrow(values[1]) if values[1].shape[1] != 16 else values[1]
    for value in values[2:]:
        total = d(binary.Add, a=total, b=narrow(value) if value.shape[1] != 16 else value)
    return d.graph(total, d(reduce.Reduce, x=values[-1], kind="max", axes=(1,)))


def copies(lowered) -> list[Copy]:
    return [s for s in lowered.state.program.steps if isinstance(s, Copy)]


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_give_equal_bits_under_random_caps(seed: int, tmp_path) -> None:
    graph = random_skips(seed)
    free, plan = build_within(graph, tmp_path / "free.tw", None)
    assert plan.certificate is not None
    low, high = plan.certificate.working_set, plan.nominal
    r = random.Random(seed)
    nested = 0
    for cap in {low, r.randrange(low, high + 1)}:
        try:
            capped, tight = build_within(graph, tmp_path / "cap.tw", cap)
        except UserError:
            # the insides of branches and loops need places, not only bytes
            nested += any(a.end - a.first > 1 for a in free.accesses)
            assert nested
            continue
        if tight.traffic is not None:
            moved = [s for s in copies(capped) if "(copied out)" in name(capped, s)]
            assert bool(moved) == (tight.traffic.copied > 0)
            assert tight.traffic.bound <= tight.traffic.copied
            homes = [row for row in capped.memory if "(copied out)" in row.name]
            others = [row for row in capped.memory if "(copied out)" not in row.name]
            assert all(row.offset >= cap for row in homes)
            assert all(row.offset + 24 * 4 <= cap for row in others)
        for env in ({"n": 24}, {"n": 5}):
            feeds = random_feeds(graph, env, seed)
            for one, two in zip(run_artifact(tmp_path / "free.tw", graph, feeds),
                                run_artifact(tmp_path / "cap.tw", graph, feeds, None, 2),
                                strict=True):  # fmt: skip
                assert one.tobytes() == two.tobytes()


def name(lowered, step: Copy) -> str:
    """The names of both sides of a copy."""
    buffers = lowered.state.program.buffers
    return " ".join(buffers[p.index].name for p in (step.source, step.target) if p.kind == "arena")


def test_caps_below_the_largest_step_are_refused() -> None:
    graph = random_skips(0)
    _, plan = lower_for(graph, TARGET)
    assert plan.certificate is not None
    with pytest.raises(UserError, match="bytes do not hold what one step works on"):
        lower_for(graph, TARGET, caps=Caps(fast=plan.certificate.working_set - 64))


def mirrored() -> onnx.ModelProto:
    """A chain of products that narrows, then widens, with sums across: an hourglass."""
    widths = [128, 64, 32]
    nodes, store, value, kept = [], [], "x", []
    for i, (a, b) in enumerate(zip([64, *widths], widths, strict=False)):
        store.append(onnx.numpy_helper.from_array(weights(a, b, scale=0.1, seed=i), f"w{i}"))
        nodes += [onnx.helper.make_node("MatMul", [value, f"w{i}"], [f"p{i}"]),
                  onnx.helper.make_node("Relu", [f"p{i}"], [f"d{i}"])]  # fmt: skip
        value = f"d{i}"
        kept.append(value)
    for i, (a, b) in enumerate(zip(widths[::-1], widths[-2::-1], strict=False)):
        store.append(onnx.numpy_helper.from_array(weights(a, b, scale=0.1, seed=9 + i), f"u{i}"))
        nodes += [onnx.helper.make_node("MatMul", [value, f"u{i}"], [f"q{i}"]),
                  onnx.helper.make_node("Tanh", [f"q{i}"], [f"t{i}"]),
                  onnx.helper.make_node("Mul", [f"t{i}", kept[-2 - i]], [f"a{i}"])]  # fmt: skip
        value = f"a{i}"
    io = [onnx.helper.make_tensor_value_info(name, 1, ["n", width])
          for name, width in (("x", 64), (value, 128))]  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "mirrored", io[:1], io[1:], store)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)],
                                  ir_version=10)  # fmt: skip


def test_a_capped_model_agrees_with_onnxruntime_and_with_itself(tmp_path) -> None:
    onnx.save(mirrored(), tmp_path / "m.onnx")
    dims = {"n": "1..32"}
    whole = compile_model(tmp_path / "m.onnx", tmp_path / "m.tw", Options(dims=dims, jobs=0))
    least = whole.plans[0].certificate
    assert least is not None
    capped = compile_model(
        tmp_path / "m.onnx",
        tmp_path / "c.tw",
        Options(dims=dims, jobs=0, fast_memory=least.working_set),
    )
    traffic = capped.plans[0].traffic
    assert traffic is not None
    assert 0 < traffic.bound == traffic.copied
    peer = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for rows in (32, 7):
        feeds = {"x": weights(rows, 64, seed=rows)}
        want = peer.run(None, feeds)[0]
        with load(tmp_path / "m.tw", threads=1) as a, load(tmp_path / "c.tw", threads=1) as b:
            one, two = a.run(None, feeds)[0], b.run(None, feeds)[0]
        assert one.tobytes() == two.tobytes()
        np.testing.assert_allclose(two, want, rtol=1e-4, atol=1e-5)
