"""Options, marks and fixtures that every test folder shares."""

import pytest

from tilewright.runtime.cpu import host_features


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the expected text of case files and golden files with what the code gives",
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """True when expected texts are to be rewritten rather than compared."""
    return bool(request.config.getoption("--update-golden"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("isa"):
        missing = sorted(set(mark.args) - host_features())
        if missing:
            pytest.skip(f"this CPU has no {', '.join(missing)}")
