"""Lookups under an error contract: formats of tables, one copy of a tied one, errors."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from support.draft_graph import Draft, weights

from tilewright.backends import reference
from tilewright.backends.artifact.package import Variant, write_package
from tilewright.backends.llvm import backend
from tilewright.backends.llvm.lowering.select import Selecting
from tilewright.backends.llvm.lowering.tables import Objective
from tilewright.backends.target import TARGETS, runs_here
from tilewright.compiler.driver import lower_for
from tilewright.compiler.formats import named
from tilewright.compiler.ir.ops.contraction import Contract
from tilewright.compiler.ir.ops.shape import Gather
from tilewright.compiler.ir.weights import from_array
from tilewright.passes.quantization.calibration import calibrate
from tilewright.passes.quantization.instrument import READ, showing
from tilewright.passes.quantization.sites import Lookup, sites
from tilewright.passes.selection.tables import solve_tables
from tilewright.runtime.errors import ExecutionError
from tilewright.runtime.session import load

RANDOM = np.random.default_rng(3)
TARGET = TARGETS["x86-64-v3"]
FAST, SMALL = Objective(), Objective(time=1e-2, size=1.0)
runs = pytest.mark.skipif(not runs_here(TARGET), reason="this machine has no AVX2")


def table_of(rows=50, width=72):
    return (RANDOM.standard_normal((rows, width)) * 0.3).astype(np.float32)


def embedding(table, tied=False):
    """Rows of a table through a product; with the table itself if it is tied."""
    d = Draft(bounds=(1, 64))
    index = d.input("index", "i64", "m")
    w = d.constant(table)
    x = d(Gather, x=w, indices=index, axis=0, source="rows")
    if tied:
        return d.graph(d(Contract, a=x, b=w, spec="mk,nk->mn", source="head"))
    up = d.constant(weights(table.shape[1], 40))
    return d.graph(d(Contract, a=x, b=up, spec="mk,kn->mn", source="up"))


def runner(graph):
    return lambda feeds: dict(zip(graph.output_names, reference.run(graph, feeds), strict=True))


def indices(rows, count=6, length=40):
    return [{"index": RANDOM.integers(-rows, rows, length)} for _ in range(count)]


@dataclass
class Fixed:
    """Offers one kind of numerics by ONNX node, rounded to nearest."""

    graph: object
    wanted: dict[str, str]
    limits: tuple[float, ...] = (1.0,)
    made: dict = field(default_factory=dict)

    def permits(self, source, constant, numerics):
        return numerics == self.wanted.get(source, "f32")

    def formats(self, source, constant):
        return frozenset(self.wanted.values()) - {"f32", "bf16"}

    def encoded(self, source, constant, name):
        key = (constant, name)
        if key not in self.made:
            self.made[key] = named(name).encode(self.graph.weights.array(constant).T)
        return self.made[key]

    def squares(self, source, constant, numerics):
        return (0.0,)

    def floor(self, source, constant, numerics):
        return None

    def basis(self, source, constant, numerics):
        return "all"

    def settle(self, choices):
        return False

    def others(self, numerics):
        return (0.0,)


def compiled(graph, offers, path, objective=FAST):
    how = Selecting(solve=solve_tables, offers=offers, objective=objective)
    lowered, plan = lower_for(graph, TARGET, how=how)
    shared = backend.share_weights([lowered])
    image, tiers = backend.build(lowered)
    write_package(path, "lookup", [Variant(lowered, image, plan, tiers)], shared, [])
    return lowered


def ran(path, index):
    with load(path) as session:
        (found,) = session.run(None, {"index": np.asarray(index, np.int64)})
    return found


@runs
@pytest.mark.parametrize("numerics", ["f32", "bf16", "w8-sym", "w4-g64"])
@pytest.mark.parametrize("width", [72, 65])
def test_rows_are_those_that_the_format_decodes(tmp_path, numerics, width):
    table = table_of(width=width)
    d = Draft(bounds=(1, 64))
    index = d.input("index", "i64", "m")
    rows = d(Gather, x=d.constant(table), indices=index, axis=0, source="rows")
    graph = d.graph(rows)
    compiled(graph, Fixed(graph, {"rows": numerics}), tmp_path / "m.tw")
    where = [0, 49, -1, -50, 7, 7, 13]
    want = table
    if numerics != "f32":
        made = named(numerics)
        want = made.decode(made.encode(table.T)).T
    np.testing.assert_array_equal(ran(tmp_path / "m.tw", where), want[where])
    for outside in (50, -51, 2**40):
        with pytest.raises(ExecutionError, match="an index of Gather is out of range"):
            ran(tmp_path / "m.tw", [0, outside])


@runs
def test_a_lookup_that_was_not_calibrated_is_lowered_as_without_a_contract(tmp_path):
    graph = embedding(table_of())
    offers = Fixed(graph, {})
    offers.squares = lambda source, constant, numerics: None
    lowered = compiled(graph, offers, tmp_path / "m.tw")
    assert [q.source for q in lowered.state.choices.questions] == ["up"]


@runs
def test_a_tied_table_in_f32_has_one_copy(tmp_path):
    table = table_of(rows=70)
    graph = embedding(table, tied=True)
    lowered = compiled(graph, Fixed(graph, {}), tmp_path / "m.tw", SMALL)
    (weight,) = (weight for _, weight in lowered.state.weights.values())
    assert weight.bytes == 4 * 96 * 72
    index = np.array([0, 69, -1, 31, 32, 33])
    np.testing.assert_allclose(ran(tmp_path / "m.tw", index), table[index] @ table.T, rtol=1e-4)


def test_a_lookup_is_a_site_with_a_count_of_each_row():
    table = table_of()
    graph, given = embedding(table), indices(50)
    lookup, product = sites(graph)
    assert isinstance(lookup, Lookup)
    assert (lookup.key, lookup.k, lookup.n) == (("rows", "w0"), 72, 50)
    np.testing.assert_array_equal(lookup.weights(graph), table.T)
    shown = runner(showing(graph, [lookup, product]))(given[0])
    np.testing.assert_array_equal(shown[READ.format(0)], given[0]["index"])
    calibration = calibrate(graph, given, runner)
    every = np.concatenate([feeds["index"] for feeds in given]) % 50
    np.testing.assert_array_equal(calibration.reads["rows"], np.bincount(every, minlength=50))


@pytest.mark.parametrize("name", ["w8-sym", "w4-g64", "bf16"])
def test_the_error_of_a_lookup_is_predicted(name):
    table = table_of(rows=400)
    graph, given = embedding(table), indices(400, 12)
    calibration = calibrate(graph, given[:8], runner)
    (predicted,) = calibration.squares("rows", "w0", name)
    stored = named(name).decode(calibration.encoded("rows", "w0", name)).T
    other = replace_table(graph, stored)
    off = whole = 0.0
    for feeds in given[8:]:
        (want,), (got,) = reference.run(graph, feeds), reference.run(other, feeds)
        off += float(np.sum((got.astype(np.float64) - want) ** 2))
        whole += float(np.sum(want.astype(np.float64) ** 2))
    measured = np.sqrt(off / whole)
    assert measured / 1.3 < np.sqrt(predicted) < measured * 1.3
    assert calibration.squares("rows", "w0", "f32") == (0.0,)


def replace_table(graph, table):
    made = graph.weights.merged({"w0": from_array(np.ascontiguousarray(table, np.float32))})
    return graph.replace(weights=made)


def test_a_tied_table_has_the_codes_of_its_product():
    graph = embedding(table_of(), tied=True)
    calibration = calibrate(graph, indices(50), runner)
    for name in ("w8-sym", "w4-g64"):
        rows, head = (calibration.encoded(source, "w0", name) for source in ("rows", "head"))
        assert rows is head


def test_tables_that_are_not_finite_are_not_offered_formats():
    table = table_of()
    table[3, 5] = np.nan
    graph = embedding(table)
    given = [{"index": np.arange(10, 30)}] * 3
    calibration = calibrate(graph, given, runner)
    assert calibration.formats("rows", "w0") == frozenset()
    assert calibration.squares("rows", "w0", "w8-sym") is None
    assert calibration.formats("up", "w1")


@runs
@pytest.mark.parametrize(
    "name", ["w8a8-sym", "w8-g64", "w6a8b64-g64", "w5-g64", "w4-g64", "w4a8b64-g64"]
)
def test_a_tied_table_in_a_format_has_one_copy(tmp_path, name):
    table = table_of(rows=70, width=128)
    graph = embedding(table, tied=True)
    lowered = compiled(graph, Fixed(graph, {"rows": name, "head": name}), tmp_path / "m.tw", SMALL)
    (weight,) = (weight for _, weight in lowered.state.weights.values())
    assert weight.bytes < 0.4 * table.nbytes * 96 / 70  # panels of 32 rows
    index = np.array([0, 69, -1, 31, 32, 33])
    made = named(name)
    stored = made.encode(table.T)
    want = made.multiply(made.decode(stored).T[index].astype(np.float32), stored)
    found = ran(tmp_path / "m.tw", index)
    assert np.linalg.norm(found - want) < 2e-3 * np.linalg.norm(want)
