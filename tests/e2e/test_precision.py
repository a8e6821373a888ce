"""Products in bf16 where an error bound allows them, exact ones everywhere else."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import tilewright
from tilewright.backends.kernels import bf16_matmul
from tilewright.backends.target import TARGETS, runs_here
from tilewright.compiler import driver
from tilewright.compiler.errors import UserError
from tilewright.compiler.options import Options
from tilewright.tools import demo

IMAGES, _ = demo.test_split()
BF16 = TARGETS["sapphirerapids"]


def operations(path: Path, target: str) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        plan = json.loads(archive.read("plan.json"))
    return {launch["operation"] for launch in plan["variants"][target]["launches"]}


def answers(path: Path, variant: str) -> np.ndarray:
    with tilewright.load(path, threads=1, variant=variant) as session:
        return session.run(None, {"image": IMAGES})[0].astype(np.float64)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One artifact: bf16 products for the target that has them, f32 for the other."""
    path = tmp_path_factory.mktemp("precision") / "digits.tw"
    targets = (BF16.name, "x86-64-v3")
    tilewright.compile(demo.model_path(), path, target=targets, max_error=1e-2, jobs=0)
    return path


def test_only_targets_with_bf16_use_it(both: Path) -> None:
    supports = bf16_matmul.FAMILY.supports
    assert supports is not None
    assert supports(BF16)
    assert not supports(TARGETS["x86-64-v3"])
    rounded, exact = operations(both, BF16.name), operations(both, "x86-64-v3")
    assert any(name.startswith("bf16") for name in rounded)
    assert not any(name.startswith("bf16") for name in exact)


def test_variants_with_different_weights_share_a_file(both: Path) -> None:
    for name in (BF16.name, "x86-64-v3"):
        if not runs_here(TARGETS[name]):
            pytest.skip(f"this machine cannot run {name}")
    exact, rounded = answers(both, "x86-64-v3"), answers(both, BF16.name)
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 1e-5 < error < 1e-2


@pytest.mark.parametrize("name", [BF16.name, "x86-64-v3"])
def test_a_profile_names_the_kernels_of_the_variant_that_ran(both: Path, name: str) -> None:
    if not runs_here(TARGETS[name]):
        pytest.skip(f"this machine cannot run {name}")
    with zipfile.ZipFile(both) as archive:
        plan = json.loads(archive.read("plan.json"))
    with tilewright.load(both, threads=1, variant=name) as session:
        rows = session.profile({"image": IMAGES[:2]}, 1)
    launches = plan["variants"][name]["launches"]
    assert sorted(row.name for row in rows) == sorted(launch["kernel"] for launch in launches)


@pytest.mark.parametrize(("bound", "worst"), [(None, 0.0), (0.0, 0.0), (9e-6, 0.0), (1e-3, 1e-5)])
def test_tighter_bounds_take_kernels_that_keep_them(bound: float | None, worst: float) -> None:
    lowered = driver.compile_model(
        demo.model_path(), None, Options((BF16.name,), max_error=bound, stop_after="lower")
    ).variants[0]
    taken = [q.candidate(lowered.state.choices.answers) for q in lowered.state.choices.questions]
    assert taken
    assert all(c.accuracy <= worst for c in taken)


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), -0.5])
def test_what_is_no_error_bound_is_refused(tmp_path: Path, bound: float) -> None:
    path = tmp_path / "digits.tw"
    with pytest.raises(UserError) as error:
        tilewright.compile(demo.model_path(), path, max_error=bound)
    assert str(error.value) == (
        "max_error: is no relative error\n"
        f"  expected a number of 0 or more, found {bound}\n"
        "  try: give 0.01 for one percent"
    )
    assert not path.exists()
