"""Checked products: what is corrupted is seen, what is not corrupted raises no alarm."""

import json
import zipfile

import numpy as np
import pytest
from support.compiled_graph import build
from support.decoder_model import decoder_model
from support.real_models import model, peer, random_feeds, relative_l2
from support.value_kinds import ROWS

from tilewright import load
from tilewright.backends import reference
from tilewright.backends.target import resolve_targets
from tilewright.compiler.driver import compile_model, run_passes
from tilewright.compiler.ir.ops.binary import Add, BitXor
from tilewright.compiler.ir.ops.contraction import Contract, Conv
from tilewright.compiler.ir.ops.control import Guard
from tilewright.compiler.ir.ops.leaf import Constant
from tilewright.compiler.ir.parse import parse_graph
from tilewright.compiler.ir.rewrite import rewrite
from tilewright.compiler.ir.weights import WeightStore, from_array
from tilewright.compiler.options import Options
from tilewright.passes.pipelines import CHECKED
from tilewright.runtime.errors import ExecutionError

CORRUPTED = (
    "{}: node '{}': its product is not what its checksum says: a weight or a result is corrupted"
    " in memory\n"
    "  status {} of tw_run\n"
    "  try: load the artifact again; if this comes back, test this machine's memory and processor"
)

STATUS = {"floats": 19, "integers": 17, "filters": 18}

THREE = """
graph @three(%x: f32[m, 40], %q: u8[m, 40], %p: f32[1, 6, 6, 5],
             %fx: f32[m, 192], %fq: i32[m, 24], %fp: f32[1, 6, 6, 8]) {
  symbols {
    m: 1..* shape(0, 0)
  }
  %w = constant {name = "w", type = f32[40, 192]} : f32[40, 192]
  %i = constant {name = "i", type = i8[40, 24]} : i8[40, 24]
  %f = constant {name = "f", type = f32[3, 3, 5, 8]} : f32[3, 3, 5, 8]
  %s = constant {name = "s", type = f32[24]} : f32[24]
  %1 = contract %x, %w {spec = "mk,kn->mn"} : f32[m, 192]  @"floats"
  %2 = gelu %1 : f32[m, 192]  @"gelu"
  %3 = contract %q, %i {spec = "mk,kn->mn"} : i32[m, 24]  @"integers"
  %4 = cast %3 {dtype = f32} : f32[m, 24]  @"cast"
  %5 = mul %4, %s : f32[m, 24]  @"scale"
  %6 = conv %p, %f {CONV} : f32[1, 6, 6, 8]  @"filters"
  return %2 as "y", %5 as "z", %6 as "c"
}
""".replace(
    "CONV",
    "strides = [1, 1], pads_low = [1, 1], pads_high = [1, 1], dilations = [1, 1], groups = 1",
)


def weights():
    rng = np.random.default_rng(1)
    return {
        "w": rng.standard_normal((40, 192)).astype(np.float32),
        "i": rng.integers(-128, 128, (40, 24)).astype(np.int8),
        "f": rng.standard_normal((3, 3, 5, 8)).astype(np.float32),
        "s": rng.standard_normal(24).astype(np.float32),
    }


def graph():
    return parse_graph(THREE, weights=WeightStore({k: from_array(v) for k, v in weights().items()}))


def corrupting(checked):
    """The checked graph with the inputs fx, fq and fp added to (or flipped in) the three products
    as kernels store them."""
    faults = dict(zip("wif", checked.inputs[3:], strict=True))

    def rule(op, builder):
        if not isinstance(op, Contract | Conv):
            return None
        right = op.b if isinstance(op, Contract) else op.w
        if not isinstance(right.op, Constant) or right.op.name not in faults:
            return None
        builder.ops.append(op)
        kind = BitXor if right.op.name == "i" else Add
        return (builder.emit(kind, a=op.results[0], b=faults[right.op.name]),)

    return rewrite(checked, rule)


def compiled(path, target=None):
    until = CHECKED.index("check-products") + 1
    corrupted = corrupting(run_passes(graph(), CHECKED[:until]))
    build(run_passes(corrupted, CHECKED[until:]), path, target)
    return path


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return compiled(tmp_path_factory.mktemp("abft") / "three.tw")


@pytest.mark.slow
@pytest.mark.isa("avx2", "fma")
def test_on_avx2(tmp_path):
    (target,) = resolve_targets(("x86-64-v3",))
    path = compiled(tmp_path / "v3.tw", target)
    test_results_are_those_of_the_model(path, 17)
    test_every_bit_of_an_integer_product(path)
    test_a_float_product_beyond_its_rounding(path, "fx", "w", "floats")
    for kind in ROWS:
        test_no_false_alarms(path, kind)


def feeds(m, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((m, 40)).astype(np.float32),
        "q": rng.integers(0, 256, (m, 40)).astype(np.uint8),
        "p": rng.standard_normal((1, 6, 6, 5)).astype(np.float32),
        "fx": np.zeros((m, 192), np.float32),
        "fq": np.zeros((m, 24), np.int32),
        "fp": np.zeros((1, 6, 6, 8), np.float32),
    }


@pytest.mark.parametrize("m", [1, 2, 17, 70])
def test_results_are_those_of_the_model(artifact, m):
    given = feeds(m, m)
    found = load(artifact, threads=2).run(None, given)
    for got, want in zip(found, reference.run(graph(), list(given.values())), strict=True):
        np.testing.assert_allclose(got, want, 1e-4, 1e-4)


def fails(session, given, artifact, node, status):
    with pytest.raises(ExecutionError) as error:
        session.run(None, given)
    assert str(error.value) == CORRUPTED.format(artifact, node, status)


def test_every_bit_of_an_integer_product(artifact):
    session, rng = load(artifact, threads=1), np.random.default_rng(3)
    clean = session.run(None, feeds(9))
    for bit in range(32):
        given = feeds(9)
        place = rng.integers(9), rng.integers(24)
        given["fq"][place] = np.uint32(1 << bit).astype(np.int32)
        fails(session, given, artifact, "integers", STATUS["integers"])
    for got, want in zip(session.run(None, feeds(9)), clean, strict=True):
        np.testing.assert_array_equal(got, want)  # the session goes on as before


@pytest.mark.parametrize(("fault", "name", "node"), [("fx", "w", "floats"), ("fp", "f", "filters")])
def test_a_float_product_beyond_its_rounding(artifact, fault, name, node):
    """A change of 1e-4 of what bounds the magnitudes of a block's products is seen; of 1e-3 where
    Winograd's filtering may have been chosen."""
    session, rng = load(artifact, threads=1), np.random.default_rng(4)
    given = feeds(9)
    if name == "w":
        magnitudes = np.abs(given["x"]) @ np.abs(weights()["w"]).reshape(40, 3, 64).sum(2)
        small = 1e-4 * magnitudes.max()
    else:
        small = 1e-3 * np.abs(given["p"]).max() * np.abs(weights()["f"]).sum()
    for size in (small, -small, 1e3 * small, 1e30, np.inf, -np.inf, np.nan):
        given = feeds(9)
        place = tuple(rng.integers(given[fault].shape))
        given[fault][place] = size
        fails(session, given, artifact, node, STATUS[node])


def test_rows_that_are_not_finite_hide_no_others(artifact):
    session = load(artifact, threads=1)
    given = feeds(9)
    given["x"][2, 3], given["x"][4, 5], given["x"][6] = np.nan, -np.inf, 3e38
    given["p"][0, 2, 2, 1] = np.nan
    found = session.run(None, given)
    assert np.isnan(found[0][2]).all()
    assert np.isinf(found[0][4]).any()
    assert np.isfinite(found[0][[0, 1, 3, 5, 7, 8]]).all()
    given["fx"][7, 100] = 10
    fails(session, given, artifact, "floats", STATUS["floats"])


@pytest.mark.parametrize("kind", ROWS)
def test_no_false_alarms(artifact, kind):
    session, rng = load(artifact, threads=1), np.random.default_rng(5)
    for m in (1, 5, 64):
        given = feeds(m, m)
        for name in "xp":
            given[name] = ROWS[kind](rng, given[name].shape).astype(np.float32)
        session.run(None, given)


def packed(path):
    """Offset in the file and bytes of every tensor of weights, by name."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("weights.safetensors")
        with archive.open(entry) as stream:
            size = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(size))
        archive.fp.seek(entry.header_offset + 26)
        lengths = archive.fp.read(4)
    names = sum(int.from_bytes(lengths[i : i + 2], "little") for i in (0, 2))
    base = entry.header_offset + 30 + names + 8 + size
    return {
        name: (base + t["data_offsets"][0], t["data_offsets"][1] - t["data_offsets"][0])
        for name, t in header.items()
        if name != "__metadata__"
    }


@pytest.mark.parametrize(
    ("name", "node", "output"), [("w", "floats", 0), ("i", "integers", 1), ("f", "filters", 2)]
)
def test_bits_of_mapped_weights(artifact, tmp_path, name, node, output):
    """Bits are flipped in the file while it is mapped, behind the checksums of loading. Every one
    of an integer is seen; of floats, errors that are not seen are small."""
    path = tmp_path / "mapped.tw"
    path.write_bytes(artifact.read_bytes())
    session, rng, seen = load(path, threads=1), np.random.default_rng(6), 0
    clean = session.run(None, feeds(9))[output]
    start, size = packed(path)[name]
    data = np.frombuffer(path.read_bytes(), np.uint8)[start : start + size]
    used = np.flatnonzero(data if name == "i" else data.view("<u4"))  # panels are padded by zeros
    with path.open("r+b") as file:
        for turn in range(48):
            place = start + int(rng.choice(used)) * (1 if name == "i" else 4)
            place += 0 if name == "i" else 3 - turn % 2  # sign and exponent
            file.seek(place)
            (byte,) = file.read(1)
            write(file, place, byte ^ (1 << int(rng.integers(8))))
            message, found = outcome(session)
            write(file, place, byte)
            if message is not None:
                assert message == CORRUPTED.format(path, node, STATUS[node])
                seen += 1
            else:  # column sums in front of kernels that do not need them are not read
                allowed = 0 if name == "i" else 1e-2 * np.abs(clean).max()
                np.testing.assert_allclose(found[output], clean, 0, allowed)
    assert seen >= (40 if name == "i" else 12)
    np.testing.assert_array_equal(session.run(None, feeds(9))[output], clean)


def write(file, place, byte):
    file.seek(place)
    file.write(bytes([byte]))
    file.flush()


def outcome(session):
    """The error's text and None, or None and the results."""
    try:
        return None, session.run(None, feeds(9))
    except ExecutionError as error:
        return str(error), None


ODD = ((1, 1), (3, 2), (17, 33), (64, 64), (100, 130), (257, 191), (1000, 67), (2000, 640))


@pytest.mark.slow
def test_kernels_of_odd_shapes_raise_no_alarm(tmp_path):
    """Every kind of operand by every kind of weights, as kernels multiply them."""
    rng = np.random.default_rng(9)
    stored, inputs, lines, results = {}, [], [], []
    for i, (k, n) in enumerate(ODD):
        kind = list(ROWS)[i]
        stored[f"w{i}"] = from_array(ROWS[kind](rng, (k, n)).astype(np.float32))
        inputs.append(f"%x{i}: f32[m, {k}]")
        lines.append(f'%w{i} = constant {{name = "w{i}", type = f32[{k}, {n}]}} : f32[{k}, {n}]')
        lines.append(f'%y{i} = contract %x{i}, %w{i} {{spec = "mk,kn->mn"}} : f32[m, {n}]  @"p{i}"')
        results.append(f'%y{i} as "y{i}"')
    lines.append("return " + ", ".join(results))
    head = f"graph @odd({', '.join(inputs)}) {{\n  symbols {{\n    m: 1..* shape(0, 0)\n  }}\n  "
    text = head + "\n  ".join(lines) + "\n}\n"
    path = tmp_path / "odd.tw"
    build(run_passes(parse_graph(text, weights=WeightStore(stored)), CHECKED), path)
    session = load(path, threads=1)
    for turn in range(60):
        m = int(rng.integers(1, 90))
        kinds = rng.choice(list(ROWS), len(ODD))
        given = {
            f"x{i}": ROWS[kind](rng, (m, k)).astype(np.float32)
            for i, ((k, _), kind) in enumerate(zip(ODD, kinds, strict=True))
        }
        assert len(session.run(None, given)) == len(ODD), turn


@pytest.mark.parametrize("cache", [None, "int8"])
def test_all_products_of_a_compile_are_checked(cache):
    """Four projections and three of the gated block a layer, and the head; with caches in codes,
    too, whose graph is fused apart."""
    options = Options(abft=True, kv_cache=cache, stop_after="passes")
    found = compile_model(decoder_model(past=True), None, options).graph
    products = [op for op in found.ops if isinstance(op, Contract)]
    checks = [op for op in found.ops if isinstance(op, Guard) and "checksum" in op.message]
    assert len(checks) >= 8
    assert len(products) == len(checks)  # checksums of few columns are sums of rows


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("minilm/minilm.onnx", {"batch": 2, "seq": 33}),
        ("codelm/decode.onnx", {"batch": 1, "past": 40}),
        ("zoo/resnet50.onnx", {}),
    ],
)
def test_real_models(name, sizes, tmp_path):
    compile_model(model(name), tmp_path / "model.tw", Options(abft=True))
    theirs = peer(model(name))
    with load(tmp_path / "model.tw") as ours:
        for seed in range(5):
            given = random_feeds(theirs, sizes, seed)
            for got, want in zip(ours.run(None, given), theirs.run(None, given), strict=True):
                assert relative_l2(got, want) < 1e-4
