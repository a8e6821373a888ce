"""Options, marks and fixtures that every test folder shares."""

import pytest

from tilewright.tools.bench.machine import cpu_flags


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
        present = {plain(flag) for flag in cpu_flags()}
        missing = sorted(name for name in mark.args if plain(name) not in present)
        if missing:
            pytest.skip(f"this CPU has no {', '.join(missing)}")


def plain(feature: str) -> str:
    """Linux writes avx512_vnni and amx_int8 where LLVM writes avx512vnni and amx-int8."""
    return feature.replace("_", "").replace("-", "")
