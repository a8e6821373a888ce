"""A small artifact whose CUDA program is written by hand: every kind of step and entry once.

y[r, c] = (x[r, c] * w[c] + 1) + n     n: rows of x whose sum is above 0, one launch for each
sums[r] = sum of y[r, :], twice that if x[0, 0] > 0
kept    = numbers of these n rows
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tilewright.backends.artifact.safetensors import TensorSpec, plan_weights
from tilewright.backends.artifact.writer import write_artifact
from tilewright.runtime.manifest import Launch, Manifest, TensorInfo, Variant

COLUMNS = 64
W = np.linspace(-1, 2, COLUMNS, dtype=np.float32)
NAN_TEXT = "an input has a value that is not a number"

SOURCE = r"""
struct alignas(64) TensorMap { unsigned char bytes[128]; };

extern "C" __global__ void scale(const float *x, const float *w, float *y, long long rows,
                                 long long units, char *workspace, int *status) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < rows * 64) {
        float *kept = (float *)workspace;
        kept[i] = x[i] * w[i % 64];
        if (x[i] != x[i]) *status = 1;
    }
}

extern "C" __global__ void scale_out(const float *x, const float *w, float *y, long long rows,
                                     long long units, char *workspace, int *status) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < rows * 64) y[i] = ((const float *)workspace)[i];
}

extern "C" __global__ void shift(const float *x, float *y, long long rows, long long units,
                                 char *workspace, int *status) {
    asm volatile("griddepcontrol.wait;" ::: "memory");
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < rows * 64) y[i] = x[i] + 1;
}

extern "C" __global__ void __cluster_dims__(2, 1, 1)
tiles(const __grid_constant__ TensorMap map, const float *x, float *sums, const float *flag,
      long long rows, long long units, char *workspace, int *status) {
    extern __shared__ __align__(128) float tile[];
    unsigned at = (unsigned)__cvta_generic_to_shared(tile);
    unsigned bar = at + 2048;
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared.b64 [%0], 1;" :: "r"(bar));
        asm volatile("fence.mbarrier_init.release.cluster;");
        asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 2048;" :: "r"(bar) : "memory");
        asm volatile(
            "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
            " [%0], [%1, {%2, %3}], [%4];"
            :: "r"(at), "l"(&map), "r"(0), "r"((int)blockIdx.x * 8), "r"(bar) : "memory");
    }
    __syncthreads();
    asm volatile(
        "{ .reg .pred p;\n"
        "again: mbarrier.try_wait.parity.shared.b64 p, [%0], 0;\n"
        "@!p bra again; }" :: "r"(bar) : "memory");
    long long row = blockIdx.x * 8 + threadIdx.x;
    if (threadIdx.x < 8 && row < rows) {
        float sum = 0;
        for (int c = 0; c < 64; c++) sum += tile[threadIdx.x * 64 + c];
        sums[row] = sum;
    }
}

extern "C" __global__ void count(const float *x, long long *kept, bool *flag, long long *n,
                                 long long rows, long long units, char *workspace, int *status) {
    long long found = 0;
    for (long long r = 0; r < rows; r++) {
        float sum = 0;
        for (int c = 0; c < 64; c++) sum += x[r * 64 + c];
        if (sum > 0) kept[found++] = r;
    }
    *n = found;
    *flag = rows && x[0] > 0;
}

extern "C" __global__ void twice(float *sums, long long rows, long long units, char *workspace,
                                 int *status) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < rows) sums[i] *= 2;
}
"""


def _entry(grid: str, suffix: str = "", **other: Any) -> dict[str, Any]:
    return {
        "suffix": suffix, "grid": [grid, "1", 1], "block": [128, 1, 1], "shared": "0",
        "cluster": [1, 1, 1], "overlaps": False, "maps": [], **other,
    }  # fmt: skip


def _kernels() -> list[dict[str, Any]]:
    per_element, map_ = "ceildiv(p0*64, 128)", {
        "operand": 0, "dtype": "f32", "dims": ["64", "p0"], "strides": ["256"], "box": [64, 8],
        "swizzle": 0, "offset": "0",
    }  # fmt: skip
    entries = {
        "scale": [_entry(per_element), _entry(per_element, "_out")],
        "shift": [_entry(per_element, overlaps=True)],
        "tiles": [_entry("2*ceildiv(p0, 16)", shared="2056", cluster=[2, 1, 1], maps=[map_])],
        "count": [_entry("1", block=[1, 1, 1])],
        "twice": [_entry("ceildiv(p0, 128)")],
    }
    return [
        {
            "name": name,
            "module": 0,
            "workspace": "p0*256" if name == "scale" else "0",
            "entries": rows,
        }
        for name, rows in entries.items()
    ]


def _launch(kernel: int, operands: list[Any], **other: Any) -> dict[str, Any]:
    return {
        "step": "launch", "kernel": kernel, "operands": operands, "dims": ["seq"],
        "units": "seq", "error": None, "counts": [], "label": "", **other,
    }  # fmt: skip


X, WEIGHT, Y, SUMS, KEPT = (
    ["input", 0, 0], ["weight", 0, 0], ["output", 0, 0], ["output", 1, 0], ["output", 2, 0],
)  # fmt: skip
BUFFER, FLAG = ["arena", 0, 0], ["arena", 1, 0]


def program(counts: bool, code_bytes: tuple[int, int]) -> dict[str, Any]:
    """The JSON; counts: with what data decide. code_bytes: of the cubin and of the PTX."""
    steps = [
        _launch(0, [X, WEIGHT, BUFFER], error=16),
        _launch(1, [BUFFER, Y]),
        _launch(2, [Y, SUMS, FLAG]),
    ]
    if counts:
        shift = _launch(1, [Y, Y])
        again = {
            "step": "repeat", "counter": "i", "trips": "n", "condition": None,
            "body": [shift], "length": None,
        }  # fmt: skip
        branch = {
            "step": "branch", "condition": FLAG, "otherwise": [],
            "then": [_launch(4, [SUMS])],
        }  # fmt: skip
        copy = {"step": "copy", "source": Y, "target": BUFFER, "bytes": "seq*256"}
        steps[2:2] = [_launch(3, [X, KEPT, FLAG], counts=["n"]), again, copy]
        steps[-1]["operands"][0] = BUFFER
        steps.append(branch)
    cubin, ptx = code_bytes
    data = {"name": "n", "source": ["data", "seq"], "low": 0, "high": None}
    outputs = [["seq", 64], ["seq"]]
    found = {
        "format": 1,
        "code": "model.sm_90a.bin",
        "symbols": [{"name": "seq", "source": ["shape", 0, 0], "low": 0, "high": 100_000}],
        "counters": ["i"] if counts else [],
        "inputs": [{"shape": ["seq", 64]}],
        "outputs": [{"shape": shape, "upper": shape} for shape in outputs],
        "constraints": [],
        "errors": {"16": NAN_TEXT},
        "arena": "ceildiv(seq*256, 64)*64 + 64",
        "buffers": [0, "ceildiv(seq*256, 64)*64"],
        "weights": [[0, 256]],
        "modules": [{"cubin": [0, cubin], "ptx": [cubin, ptx]}],
        "kernels": _kernels(),
        "steps": steps,
    }
    if counts:
        found["symbols"].append(data)
        found["outputs"].append({"shape": ["n"], "upper": ["seq"]})
    return found


def write(path: Path, counts: bool, cubin: bytes, ptx: bytes = b"", **manifest: Any) -> Path:
    """The artifact with this code for its module."""
    outputs = [TensorInfo("y", "f32", ("seq", 64)), TensorInfo("sums", "f32", ("seq",))]
    names = ["scale", "shift", "tiles"]
    if counts:
        outputs.append(TensorInfo("kept", "i64", ("n",)))
        names = ["scale", "shift", "count", "shift", "tiles", "twice"]
    layout = plan_weights([TensorSpec("w", "f32", (COLUMNS,))])
    fields: dict[str, Any] = {
        "producer": "tests",
        "name": "tiny",
        "inputs": (TensorInfo("x", "f32", ("seq", 64)),),
        "outputs": tuple(outputs),
        "variants": (Variant("sm_90a", "model.sm_90a.json", ("sm_90a", "compute_90a"), 2, "cuda"),),
        "dims": {"seq": (0, 100_000)},
        "weights_base": layout.base,
        "launches": tuple(Launch(name, name, "seq*64", "seq*512") for name in names),
        **manifest,
    }
    text = json.dumps(program(counts, (len(cubin), len(ptx)))).encode()
    code = {"model.sm_90a.json": text, "model.sm_90a.bin": cubin + ptx}
    write_artifact(path, Manifest(**fields), code, layout, [("w", W)])
    return path


def expected(x: np.ndarray[Any, Any], counts: bool) -> list[np.ndarray[Any, Any]]:
    """The outputs of `x` in float64."""
    wide = x.astype(np.float64)
    y = wide * W + 1
    kept = np.flatnonzero(wide.sum(1) > 0)
    if not counts:
        return [y, y.sum(1)]
    y = y + len(kept)
    return [y, y.sum(1) * (2 if len(x) and x[0, 0] > 0 else 1), kept]
