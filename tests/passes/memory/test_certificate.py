"""What a certificate claims about an arena, by the numbers of small programs."""

import pytest

from tilewright.passes.memory.certificate import Certificate, certify
from tilewright.passes.memory.dag import Dag, Op
from tilewright.passes.memory.order import order_steps


def wide_and_narrow(*order: int) -> Dag:
    """Two wide results that are narrowed; making both wide ones first is the worse order."""
    ops = (
        Op("in", (), (0,)),
        Op("wide a", (0,), (1,)),
        Op("wide b", (0,), (2,)),
        Op("narrow a", (1,), (3,)),
        Op("narrow b", (2,), (4,)),
        Op("join", (3, 4), (5,)),
    )
    return Dag(tuple(ops[i] for i in order or range(6)), (64, 640, 640, 64, 64, 64), frozenset({5}))


def test_order_as_compiled_is_compared_with_the_best() -> None:
    given = certify(wide_and_narrow(), 1408, order_steps(wide_and_narrow()))
    assert given.max_live == 1344
    assert given.working_set == 704
    assert (given.best_peak, given.best_bound) == (768, 768)
    assert not given.optimal
    assert given.text().splitlines() == [
        "arena         1,408 B  6 buffers, 6 steps",
        "max-live      1,344 B  least arena for the order as compiled",
        "best order      768 B  least max-live over all orders",
        "largest step    704 B  least arena for any order and spilling",
        "at most 64 B above the best packing; another order keeps 576 B less alive",
    ]
    dag = wide_and_narrow(0, 1, 3, 2, 4, 5)
    better = certify(dag, 768, order_steps(dag))
    assert better.max_live == 768
    assert better.optimal
    assert better.conclusion() == "optimal: no order of the steps and no packing needs less"


@pytest.mark.parametrize(
    ("certificate", "text"),
    [
        (
            Certificate(9, 9, 1344, 1344, 704, 1344, 704),
            "optimal for this order; no better order was found, and none was excluded",
        ),
        (
            Certificate(9, 9, 1344, 1344, 704, 768, 768),
            "optimal for this order; another order keeps 576 B less alive",
        ),
        (
            Certificate(9, 9, 832, 768, 704, 768, 768, packing_proven=True),
            "no order keeps less alive, and no packing of this order is lower",
        ),
        (
            Certificate(9, 9, 832, 768, 704, 768, 768),
            "at most 64 B above the best packing",
        ),
    ],
)
def test_nothing_more_is_claimed_than_is_proven(certificate: Certificate, text: str) -> None:
    assert certificate.conclusion() == text
    assert not certificate.optimal


def test_range_is_shown_where_the_best_order_is_open() -> None:
    text = Certificate(9, 9, 1344, 1344, 704, 1344, 1000).text()
    assert "best order    1,000 B to 1,344 B  least max-live over all orders" in text
