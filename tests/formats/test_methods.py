"""The table of methods names what is there."""

import re
from pathlib import Path

import pytest

from tilewright.compiler.formats import formats, named
from tilewright.compiler.formats.caches import CACHES
from tilewright.compiler.formats.format import WeightFormat
from tilewright.compiler.formats.sliced import WIDTHS

TABLE = Path(__file__).parents[2] / "docs/methods.md"
STATES = {"kernel", "pass", "part", "emulated", "rejected"}
LINES = [line for line in TABLE.read_text().splitlines() if line.startswith("|")]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in LINES[2:]]


def test_rows_are_whole() -> None:
    assert LINES[0] == "| Method | State | Name | Source | Why |"
    assert len(ROWS) >= 26
    for row in ROWS:
        assert len(row) == 5, row
        assert row[1] in STATES, row
        assert all(row), row
    assert len({row[0] for row in ROWS}) == len(ROWS)


def names() -> list[str]:
    found = (re.findall(r"`([^`]+)`", row[2] + row[4]) for row in ROWS)
    return [name for one in found for name in one if not name.startswith("--") and "/" not in name]


@pytest.mark.parametrize("name", sorted(set(names())))
def test_every_format_in_it_exists(name: str) -> None:
    assert isinstance(named(name), WeightFormat)
    assert named(name).name == name


def test_every_option_in_it_is_taken() -> None:
    options = {text for row in ROWS for text in re.findall(r"`--([^`]+)`", row[2])}
    assert {option.split()[0] for option in options} == {"slices", "kv-cache"}
    for option in options:
        kind, value = option.split()
        if kind == "slices":
            assert {int(part) for part in value.split(",")} <= set(WIDTHS)
        else:
            assert value in CACHES


def test_every_kind_of_format_is_in_it() -> None:
    """Each class of formats by at least one of its names."""
    kinds = {type(named(name)) for name in names()}
    missing = {type(made).__name__ for made in formats().values()} - {k.__name__ for k in kinds}
    assert not missing
