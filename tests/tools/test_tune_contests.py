"""Which candidates the tuner measures."""

from tilewright.tools.tune import _first, geomean


def test_the_best_of_each_family_comes_before_the_second_of_any() -> None:
    families = ["a", "a", "a", "b", "b", "c"]
    times = [1.0, 1.1, 1.2, 2.0, 1.5, 9.0]
    assert _first(families, times, 6) == [0, 4, 5, 1, 2, 3]
    assert _first(families, times, 3) == [0, 4, 5]
    assert _first(families, times, 2) == [0, 4]
    assert _first(families[:3], times[:3], 2) == [0, 1]


def test_the_mean_of_regrets() -> None:
    assert geomean([]) == 1.0
    assert abs(geomean([1.0, 4.0]) - 2.0) < 1e-12
