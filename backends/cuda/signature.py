"""The first lines of a GPU kernel's functions: the parameters that cuda.kernel fixes."""

from __future__ import annotations


def signature(
    name: str, operands: int, dims: int, *, maps: int = 0, threads: int = 0, blocks: int = 1
) -> str:
    """Text up to the opening brace. ``threads``: most threads of a block (0: not said), of which
    ``blocks`` blocks at least share a multiprocessor."""
    bounds = f" __launch_bounds__({threads}, {blocks})" if threads else ""
    parameters = [f"const __grid_constant__ TensorMap m{i}" for i in range(maps)]
    parameters += [f"void *a{i}" for i in range(operands)]
    parameters += [f"long long p{i}" for i in range(dims)]
    parameters += ["long long units", "char *workspace", "int *status"]
    return f'extern "C" __global__ void{bounds} {name}({", ".join(parameters)}) {{\n'


def when(condition: str) -> str:
    """1 where the value of a formula is positive, else 0, as a formula of a grid."""
    return f"min(1, max(0, {condition}))"
