"""What is run under compute-sanitizer, and how its output is read."""

import pytest
from support.sanitizer import LARGE, REGION, SMALL, chosen, parsed, prepare, row, subjects

from tilewright.backends.kernels.registry import families
from tilewright.backends.target import lookup

TARGET = lookup("sm_90a")
ENDED = """========= COMPUTE-SANITIZER
launch rows 1 (1, 33, 70)
launch rows 70 (70, 33, 70)
{}
========= {}
"""


def test_every_family_of_gpus_is_run():
    serving = {name for name, family in families().items() if family.cuda is not None}
    assert set(subjects(TARGET)) == serving | {REGION}


@pytest.mark.parametrize("name", ["simt_bmm", "encoded_rows", REGION])
def test_launches_are_few_small_and_from_both_ends(name):
    found = chosen(name, 5)
    assert len(found) == 5
    sizes = sorted(sum(a.nbytes for a in (*c.args, *c.results)) for c in found)
    assert sizes[-2] <= SMALL
    assert sizes[-1] <= LARGE
    labels = [(c.label, c.dims) for c in chosen(name, 400)]
    at = [labels.index((c.label, c.dims)) for c in found]
    if name != REGION:
        assert at == sorted(at)
        assert at[0] == 0
        assert at[-1] >= len(labels) * 3 // 4


def test_products_by_codes_of_many_columns_are_run():
    _, _, n = max((case.dims[:3] for case in chosen("grouped_mma", 14)), key=lambda dims: dims[2])
    assert n >= 12_544  # below, the kernel for groups of warps is not launched


def test_launches_are_compiled_with_their_kernels():
    (one,) = prepare("simt_bmm", 3, TARGET, 1, 3)
    assert one.code.startswith(b"\x7fELF")
    assert one.kernel.entries


@pytest.mark.parametrize(
    ("summary", "said", "counted", "clean"),
    [
        ("ERROR SUMMARY: 0 errors", "", 0, True),
        ("ERROR SUMMARY: 3 errors", "", 3, False),
        ("ERROR SUMMARY: 1 error", "", 1, False),
        ("RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)", "", 0, True),
        ("RACECHECK SUMMARY: 2 hazards displayed (1 error, 1 warning)", "", 2, False),
        ("ERROR SUMMARY: 0 errors", "wrong rows 70: not equal", 0, False),
        ("killed", "", None, False),
    ],
)
def test_what_a_tool_says(summary, said, counted, clean):
    found = parsed(ENDED.format(said, summary), 9)
    assert (found.launches, found.all, found.counted, found.clean) == (2, 9, counted, clean)
    assert len(found.wrong) == bool(said)


def test_nothing_run_is_not_clean():
    assert not parsed("========= ERROR SUMMARY: 0 errors", 0).clean


def test_a_line_names_what_is_not_clean():
    good = parsed(ENDED.format("", "ERROR SUMMARY: 0 errors"), 2)
    assert (
        row("simt_bmm", {"memcheck": good}) == "simt_bmm               2 of   2           0     0"
    )
    bad = parsed(ENDED.format("wrong sums", "ERROR SUMMARY: 4 errors"), 2)
    first, *more = row("simt_bmm", {"memcheck": good, "racecheck": bad}).splitlines()
    assert first.endswith("  2 of   2           4     1")
    assert more[1:] == ["    wrong sums", "    ========= ERROR SUMMARY: 4 errors"]
    stopped = parsed(ENDED.format("", "killed"), 9)
    first, *more = row("simt_bmm", {"memcheck": stopped}).splitlines()
    assert first.endswith("  2 of   9 did not end     0")
    assert "    launch rows 70 (70, 33, 70)" in more
