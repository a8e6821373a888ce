"""CPU features of this machine under LLVM's names, and the choice of a variant by them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cache

from tilewright.runtime.errors import TargetError
from tilewright.runtime.manifest import Variant

# Linux flags whose LLVM name is not the flag itself without underscores.
_LLVM_NAMES = {
    "pni": "sse3",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "pclmulqdq": "pclmul",
    "bmi1": "bmi",
    "abm": "lzcnt",
    "lahf_lm": "sahf",
    "3dnowprefetch": "prfchw",
    "lm": "64bit",
    "fpu": "x87",
    "sha_ni": "sha",
    "rdrand": "rdrnd",
    "amx_tile": "amx-tile",
    "amx_int8": "amx-int8",
    "amx_bf16": "amx-bf16",
    "amx_fp16": "amx-fp16",
    "avx512_vpopcntdq": "avx512vpopcntdq",
    "fp": "fp-armv8",
    "atomics": "lse",
    "asimdrdm": "rdm",
    "asimd": "neon",
    "asimddp": "dotprod",
    "asimdhp": "fullfp16",
}
_UNDERSCORED = ("avx512_", "avx_")


@cache
def host_features() -> frozenset[str]:
    """LLVM names of the features that the CPU has and the system lets programs use.

    Empty where /proc/cpuinfo cannot be read or has no list of flags.
    """
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in ("flags", "Features"):
                    return features_of_flags(value.split())
    except OSError:
        return frozenset()
    return frozenset()


def features_of_flags(flags: Iterable[str]) -> frozenset[str]:
    """LLVM's names for flags as /proc/cpuinfo spells them."""
    names = set()
    for flag in flags:
        plain = flag.replace("_", "") if flag.startswith(_UNDERSCORED) else flag
        names.add(_LLVM_NAMES.get(flag, plain))
    if "sse4.2" in names:
        names.add("crc32")
    return frozenset(names)


def host_architecture() -> str:
    """`x86_64`, `aarch64`, ..."""
    return os.uname().machine


def runnable_variants(where: str, variants: Sequence[Variant]) -> list[Variant]:
    """The variants this machine can run, best first; TargetError naming what is missing if none."""
    features, architecture = host_features(), host_architecture()
    ranked = sorted(variants, key=lambda variant: -variant.rank)
    native = [variant for variant in ranked if variant.machine == architecture]
    if not native:
        targets = ", ".join(variant.target for variant in ranked)
        raise TargetError(
            where,
            "the artifact has no code for this machine",
            f"expected a variant for {architecture}, found {targets}",
            "compile the model again with a target of this machine",
        )
    fitting = [variant for variant in native if features.issuperset(variant.features)]
    if not fitting:
        least = min(native, key=lambda variant: len(set(variant.features) - features))
        missing = ", ".join(name for name in least.features if name not in features)
        raise TargetError(
            where,
            "this CPU lacks features that every variant of the artifact needs",
            f"the nearest variant, {least.target}, needs {missing}",
            "compile the model again with a target of this machine",
        )
    return fitting
