"""Machine profiles: files, checks of their contents, and which one a target gets."""

import json
import os
from dataclasses import replace

import pytest

from tilewright.backends import profile as profiles
from tilewright.backends.cost.measure import measure
from tilewright.backends.profile import MachineProfile, Rate
from tilewright.backends.target import TARGETS, detect
from tilewright.compiler.errors import UserError

SHIPPED = profiles.shipped()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_every_target_row_has_a_profile() -> None:
    assert set(SHIPPED) == set(TARGETS)


@pytest.mark.parametrize("profile", SHIPPED.values(), ids=SHIPPED)
def test_text_round_trip(profile: MachineProfile) -> None:
    again = MachineProfile.from_json(profile.to_json())
    assert again == profile
    assert again.digest == profile.digest
    assert replace(profile, cores=7).digest != profile.digest


@pytest.mark.parametrize("profile", SHIPPED.values(), ids=SHIPPED)
def test_shipped_figures_are_ordered(profile: MachineProfile) -> None:
    read = profile.read
    assert read.l1.one > read.l2.one > read.l3.one > read.dram.one
    assert profile.rates.f32.burst >= profile.rates.f32.sustained
    target = TARGETS[profile.target]
    tiles = target.gpu or "amx-bf16" in target.all_features
    assert (profile.rates.bf16_tile is not None) == tiles


def test_a_unit_that_is_missing_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no rate of bf16_tile"):
        SHIPPED["x86-64-v3"].rate("bf16_tile")
    with pytest.raises(ValueError, match="no rate of digest"):
        SHIPPED["x86-64-v3"].rate("digest")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=2), "entry 'format' expected 1"),
        (lambda d: d.pop("l2"), "entry 'l2' missing"),
        (lambda d: d.update(l4=1), "entry 'l4' unknown entry"),
        (lambda d: d["rates"]["f32"].update(burst="fast"), "entry 'rates.f32.burst' expected a"),
        (lambda d: d["rates"]["f32"].update(burst=float("nan")), "'rates.f32.burst' expected a"),
        (lambda d: d["read"]["l3"].update(one=-1), "entry 'read.l3.one' expected a positive"),
        (lambda d: d["read"].update(l3=4), "entry 'read.l3' expected an object"),
        (lambda d: d.update(target=3), "entry 'target' expected text"),
        (lambda d: d["fit"]["rate"].update(f32=0), "entry 'fit.rate.f32' expected a positive"),
        (lambda d: d.update(vector=True), "entry 'vector' expected a positive"),
    ],
)
def test_a_bad_file_names_the_entry(change, message: str) -> None:
    data = json.loads(SHIPPED["x86-64-v3"].to_json())
    change(data)
    with pytest.raises(UserError, match=message):
        MachineProfile.from_json(json.dumps(data), "my.json")


def test_text_that_is_not_json() -> None:
    with pytest.raises(UserError, match=r"my.json.*is not JSON"):
        MachineProfile.from_json("{", "my.json")


def test_the_stored_profile_is_used_natively_and_only_there() -> None:
    native = detect()
    other = next(t for t in TARGETS.values() if t != native)
    assert profiles.profile_for(native) == SHIPPED[native.name]
    mine = replace(SHIPPED[native.name], cpu="mine")
    path = profiles.store(mine)
    assert path == profiles.stored_path()
    assert path.is_relative_to(os.environ["XDG_CACHE_HOME"])
    assert profiles.profile_for(native) == mine
    assert profiles.profile_for(native).describe()["cpu"] == "mine"
    assert profiles.profile_for(other) == SHIPPED[other.name]
    profiles.store(replace(mine, cpu="newer"))
    assert profiles.profile_for(native).cpu == "newer"
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    path.write_text("{}")
    with pytest.raises(UserError, match="--measure"):
        profiles.profile_for(native)


def test_a_failed_store_leaves_nothing(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="full"):
        profiles.store(SHIPPED["x86-64-v3"])
    assert list(profiles.cache_folder().iterdir()) == []


def test_this_machine_can_be_measured() -> None:
    told: list[tuple[str, int, int]] = []
    profile = measure(detect(), 0.01, lambda *step: told.append(step))
    assert MachineProfile.from_json(profile.to_json()) == profile
    assert [number for _, number, _ in told] == list(range(1, told[0][2] + 1))
    assert profile.target == detect().name
    assert isinstance(profile.rates.f32, Rate)
    for unit in ("bf16_tile", "bf16_dot", "int8_tile", "int8_dot", "f16"):
        shipped = getattr(SHIPPED[detect().name].rates, unit)
        assert (getattr(profile.rates, unit) is None) == (shipped is None)
