"""The table of key-value caches: one row a format, with bytes and errors of its own."""

import json
import sys

import onnx
import pytest
from support.decoder_model import decoder_model

from tilewright.compiler.formats.caches import CACHES
from tilewright.runtime.session import Session
from tilewright.tools import bench_caches


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("caches")
    onnx.save(decoder_model(True), path / "decode.onnx")
    return path


def test_a_table_and_a_record(files, monkeypatch, capsys) -> None:
    work, path = files / "work", files / "caches.json"
    options = f"{files / 'decode.onnx'} --past past=3,40 --shape batch=2 --seconds 0 --work {work}"
    monkeypatch.setattr(sys, "argv", ["bench_caches", *options.split(), "--record", str(path)])
    bench_caches.main()
    lines = capsys.readouterr().out.splitlines()
    rows = json.loads(path.read_text())["rows"]
    assert len(lines) == len(rows) == 6
    by = {(row["past"], row["format"]): row for row in rows}
    assert set(by) == {(past, name) for past in (3, 40) for name in ("f32", "int8", "int4")}
    for past in (3, 40):
        # 2 layers, 2 sequences, 2 heads, keys and values of 16 elements; a scale a row in codes.
        elements = 2 * 2 * 2 * 2 * past
        assert by[past, "f32"]["cache_bytes"] == elements * 16 * 4
        assert by[past, "int8"]["cache_bytes"] == elements * (16 + 4)
        assert by[past, "int4"]["cache_bytes"] == elements * (8 + 4)
        assert by[past, "f32"]["off"] == 0 < by[past, "int8"]["off"] < by[past, "int4"]["off"] < 0.5
        assert by[past, "f32"]["times"] == 1
        assert all(by[past, name]["milliseconds"] > 0 for name in CACHES)


def test_feeds_are_those_of_a_loop_that_decodes(files) -> None:
    """What is fed in place of f32 decodes to it but for the steps of its format."""
    made = bench_caches.artifacts(str(files / "decode.onnx"), files / "work", {})
    told = bench_caches.FeedOptions(shape={"batch": 1, "past": 5})
    with Session(made["f32"], threads=1) as plain, Session(made["int8"], threads=1) as session:
        feeds = bench_caches.make_feeds("decode", plain.manifest, told, random=True)
        found = bench_caches.encoded(session, feeds)
        for cache in session.caches:
            back = CACHES["int8"].decode(found[cache.past], found[cache.past_scale])
            assert abs(back - feeds[cache.past]).max() <= 0.5001 * found[cache.past_scale].max()
        assert set(found) == {described.name for described in session.get_inputs()}
