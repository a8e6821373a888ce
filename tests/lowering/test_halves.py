"""Values in f16 on GPUs: how large they can be, and which of them are stored so."""

from dataclasses import replace

import numpy as np
import pytest
from support.draft_graph import Draft, weights

from tilewright.backends import reference
from tilewright.backends.artifact.selection_report import selection_report
from tilewright.backends.llvm.lowering import lower as lowering
from tilewright.backends.llvm.lowering.lower import lower
from tilewright.backends.llvm.lowering.magnitudes import LARGEST, LEAST, Magnitudes
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.state import Lowering
from tilewright.backends.llvm.lowering.tables import Tables
from tilewright.backends.llvm.program import Launch, launches
from tilewright.backends.llvm.region.spec import RegionSpec
from tilewright.backends.target import TARGETS
from tilewright.compiler.driver import run_passes
from tilewright.compiler.ir.core import Graph, Value
from tilewright.compiler.ir.ops import binary, nn, shape, unary
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.passes.pipelines import PIPELINES
from tilewright.passes.selection.tables import solve_tables

GPU = TARGETS["sm_90a"]
ROWS = 512
WIDTH, INNER, HEADS = 64, 128, 2


def drawn(*sizes: int, seed: int = 0) -> np.ndarray:
    """Weights of a product of sizes[0] elements."""
    return weights(*sizes, seed=seed) / np.float32(sizes[0] ** 0.5)


class Encoder(Draft):
    """A layer of an encoder on what is fed, with every value that it makes."""

    def __init__(self, scale: float = 1.0, bias: float = 1.0, normalized: bool = True) -> None:
        super().__init__((1, ROWS))
        self.made: list[Value] = []
        self.scale, self.bias = scale, bias
        x = self.input("x", "f32", 1, "m", WIDTH)
        self.first = self.norm(x, 1) if normalized else self(unary.Neg, x=x)
        a = self.attention(self.first)
        self.sum = self.product(a, WIDTH, 4, self.first)
        self.second = self.norm(self.sum, 2)
        h = self(unary.Gelu, x=self.product(self.second, INNER, 5))
        self.last = self.product(h, WIDTH, 6, self.second)
        self.third = self.norm(self.last, 3)
        self.result = self.product(self.third, 40, 7)

    def __call__(self, cls, **fields):
        made = super().__call__(cls, **fields)
        if isinstance(made, Value) and made.type.shape[:1] == (1,):
            self.made.append(made)
        return made

    def norm(self, x: Value, seed: int) -> Value:
        scale = self.constant(weights(WIDTH, seed=seed) * np.float32(self.scale))
        bias = self.constant(weights(WIDTH, seed=seed + 10) * np.float32(self.bias))
        return self(nn.LayerNorm, x=x, scale=scale, bias=bias, axis=2, eps=1e-5)

    def product(self, x: Value, n: int, seed: int, residual: Value | None = None) -> Value:
        w = self.constant(drawn(int(x.shape[-1]), n, seed=seed))
        y = self(Contract, a=x, b=w, spec="bmk,kn->bmn")
        y = self(binary.Add, a=y, b=self.constant(weights(n, seed=seed + 20)))
        return y if residual is None else self(binary.Add, a=y, b=residual)

    def attention(self, x: Value) -> Value:
        split = (1, x.shape[1], HEADS, WIDTH // HEADS)
        q, k, v = (
            self(shape.Reshape, x=self.product(x, WIDTH, 30 + i), shape=split) for i in range(3)
        )
        axes = {"q_axes": "bqhd", "k_axes": "bkgd", "v_axes": "bkge", "out_axes": "bqhe"}
        y = self(nn.Attention, q=q, k=k, v=v, scale=0.2, **axes)
        return self(shape.Reshape, x=y, shape=x.shape)


def fed(rows: int) -> np.ndarray:
    """Rows of every kind: random, with one large element, equal ones, huge ones."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, rows, WIDTH)).astype(np.float32)
    x[0, 1::4, 3] = 1e6
    x[0, 2::4] = 5
    x[0, 3::4] *= 1e9
    return x


@pytest.mark.parametrize("scale", [0.1, 30.0])
def test_no_value_is_larger_than_is_said(scale: float) -> None:
    d = Encoder(scale)
    every = [v for v in d.made if v.op is not None]
    found = Magnitudes(d.graph(d.result))
    arrays = reference.run(d.graph(*every), {"x": fed(40)}, precision="f64")
    bounded = 0
    for value, array in zip(every, arrays, strict=True):
        size = found.size(value)
        assert np.abs(array).max() <= size.most * (1 + 1e-6)
        assert np.linalg.norm(array, axis=-1).max() <= size.length * (1 + 1e-6)
        if size.most < np.inf:
            bounded += 1
            # Not far from what there is, nor what is expected.
            assert size.most < 300 * np.abs(array).max()
            assert 1 / 8 < size.usual / np.sqrt(np.mean(array**2)) < 16
    assert bounded == len(every)


def test_rows_of_other_lengths_bound_nothing() -> None:
    d = Draft()
    x = d(nn.LayerNorm, x=d.input("x", "f32", 3, 16), axis=1, eps=1e-5)
    ends = d(shape.Slice, x=x, starts=(0, 0), steps=(1, 1), shape=(3, 1))
    wide = d(binary.Add, a=d(shape.Broadcast, x=ends, shape=(3, 16)), b=x)
    y = d(Contract, a=wide, b=d.constant(np.ones((16, 2), np.float32)), spec="mk,kn->mn")
    found = Magnitudes(d.graph(y))
    assert found.size(ends).length == found.size(x).most == 4
    assert found.size(wide).length == pytest.approx(16 + 4)
    assert found.size(y).most == pytest.approx(20 * 4)


@pytest.mark.parametrize(
    ("scale", "bias", "held"),
    [(1.0, 1.0, True), (LARGEST, 1.0, False), (1.0, LARGEST, False), (LEAST / 9, LEAST / 9, False)],
)
def test_only_what_fits_is_f16(scale: float, bias: float, held: bool) -> None:
    d = Encoder(scale, bias)
    assert Magnitudes(d.graph(d.result)).in_f16(d.second) == held


def lowered(graph: Graph, target: str = "sm_90a", error: float = 1e-2) -> Lowering:
    fused = run_passes(graph, PIPELINES["fuse"])
    return lower(fused, TARGETS[target], error, Selecting({"m": ROWS}, solve=solve_tables))


def formats(low: Lowering) -> list[str]:
    """Of every launch: what it reads, what it writes."""
    return [_formats(launch) for launch in launches(low.program.steps)]


def _formats(launch: Launch) -> str:
    spec = launch.spec
    if isinstance(spec, RegionSpec):
        return f"{spec.inputs[0]}>{'+'.join(s.dtype for s in spec.outputs)}"
    if launch.label == "gpu_attention":
        return f"{spec.q}>{spec.y}"
    spec = getattr(spec, "product", spec)
    full = "".join(f" {e.dtype}" for e in spec.epilogue.extras if e.index == "full")
    return f"{spec.element}: {spec.a}{full}>{spec.c}"


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalizations are launches of their own."""
    monkeypatch.setattr(lowering, "normed_products", lambda graph: {})


def test_sums_and_normalizations_are_stored_once(apart: None) -> None:
    d = Encoder()
    low = lowered(d.graph(d.result))
    assert formats(low) == [
        "f32>f16",
        "f16: f16>bf16",
        "bf16>bf16",
        "bf16: bf16 f16>f16",
        "f16>f16",
        "f16: f16>bf16",
        "bf16: bf16 f16>f16",
        "f16>bf16",
        "bf16: bf16>f32",
    ]
    report = selection_report(low)
    assert report is not None
    reasons = {v["reason"] for v in report["values"] if v["formats"] == ["f16"]}
    assert reasons == {"f16 holds all that it can be"}
    others = {v["reason"] for v in report["values"] if v["formats"] == ["bf16"]}
    assert others == {"all that read it round it to bf16 anyway"}


def test_kernels_that_normalize_store_once_and_read_residuals_too() -> None:
    d = Encoder()
    graph = run_passes(d.graph(d.result), PIPELINES["fuse"])

    def solve(problem: Tables) -> list[int]:
        """The first way of forks is the region's, the other one the kernel's."""
        costs = list(problem.costs)
        for at in range(len(costs) - len(problem.forks), len(costs)):
            costs[at] = (1e3, 0.0) if len(costs[at]) == 2 else costs[at]
        return list(solve_tables(replace(problem, costs=tuple(costs))))

    low = lower(graph, GPU, 1e-2, Selecting({"m": ROWS}, solve=solve))
    specs = [s.spec for s in launches(low.program.steps) if s.label == "wgmma_normed_matmul"]
    assert len(specs) == 2
    for spec in specs:
        kinds = [e.dtype for e in spec.product.epilogue.extras if e.index == "full"]
        assert kinds == ["f16"]
    assert [spec.product.c for spec in specs] == ["f16", "bf16"]


def test_what_may_be_anything_stays_f32_where_f32_is_read(apart: None) -> None:
    d = Encoder(normalized=False)
    found = formats(lowered(d.graph(d.result)))
    assert not any("f16" in f.replace("bf16", "") for f in found[:4])
    # Behind a normalization it is known again; its operand is not.
    assert "bf16: bf16 f32>f32" in found
    assert "f32>f16" in found


@pytest.mark.parametrize(("target", "error"), [("sm_90a", 1e-3), ("sapphirerapids", 1e-2)])
def test_nothing_is_f16_elsewhere(target: str, error: float) -> None:
    d = Encoder()
    low = lowered(d.graph(d.result), target, error)
    specs = [launch.spec for launch in launches(low.program.steps)]
    stores = {s.dtype for spec in specs if isinstance(spec, RegionSpec) for s in spec.outputs}
    assert "f16" not in stores
    assert not {getattr(spec, "c", "f32") for spec in specs} & {"f16"}


class Offering:
    """An error contract that offers no formats."""

    def __init__(self, limit: float) -> None:
        self.limits = (limit**2,)

    def permits(self, source, constant, numerics):
        return True

    def formats(self, source, constant):
        return frozenset()

    def squares(self, source, constant, numerics):
        return (0.0,)

    def others(self, numerics):
        return (0.0,)

    def floor(self, source, constant, numerics):
        return None

    def settle(self, choices):
        return False


@pytest.mark.parametrize(("limit", "kinds"), [(1e-2, {"f16"}), (1e-3, {"f32"}), (None, {"f32"})])
def test_what_outputs_may_err_decides_whatever_is_offered(
    limit: float | None, kinds: set, apart: None
) -> None:
    d = Encoder()
    fused = run_passes(d.graph(d.result), PIPELINES["fuse"])
    how = Selecting({"m": ROWS}, solve=solve_tables, offers=Offering(limit or 1.0))
    low = lower(fused, GPU, limit, how)
    specs = [launch.spec for launch in launches(low.program.steps)]
    bare = [getattr(s, "product", s) for s in specs if not isinstance(s, RegionSpec)]
    extras = [e for s in bare if hasattr(s, "epilogue") for e in s.epilogue.extras]
    assert {e.dtype for e in extras if e.index == "full"} == kinds
