"""Fused regions on the GPU beside PyTorch: `python -m tilewright.tools.bench_gpu_regions`.

Operands are random numbers, large ones beyond the L2, small ones in it. Both sides are captured
into CUDA graphs of LAUNCHES launches; times are medians of replays, microseconds of a launch. Rates
count every operand and result once. Results are compared with PyTorch's.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.cuda.region import region_kernel
from tilewright.backends.llvm.emit.convert import ITEM_BYTES
from tilewright.backends.llvm.region import dims
from tilewright.backends.llvm.region.spec import Const, Load, Node, Op, Reduce, RegionSpec, Store
from tilewright.backends.target import lookup
from tilewright.tools.bench.gpu_builds import add_options, build
from tilewright.tools.bench.gpu_kernels import Device

LAUNCHES, REPLAYS = 20, 5
N = 64 << 20
"""Elements of a large operand."""

Peer = Callable[..., Any]


@dataclass(frozen=True)
class Case:
    """``inputs``, ``results``: elements of each. ``peer``: the same with PyTorch's functional
    module and the operands, whose first result is compared with ours."""

    name: str
    spec: RegionSpec
    inputs: tuple[int, ...]
    results: tuple[int, ...]
    peer: Peer = field(compare=False)

    @property
    def bytes(self) -> int:
        """Read and written once."""
        read = zip(self.spec.inputs, self.inputs, strict=True)
        written = zip((s.dtype for s in self.spec.outputs), self.results, strict=True)
        return sum(ITEM_BYTES[dtype] * count for dtype, count in (*read, *written))


def chain(name: str, ops: Sequence[str], n: int, peer: Peer, inputs: int = 1) -> Case:
    """Elementwise operators of f32; the first one takes all inputs."""
    body: list[Node] = [Load(k, (1,)) for k in range(inputs)]
    for op in ops:
        last = len(body) - 1
        body.append(Op(op, tuple(range(inputs)) if last + 1 == inputs else (last,), "f32"))
    store = Store(len(body) - 1, "f32", (1,))
    spec = RegionSpec((n,), ("f32",) * inputs, tuple(body), (store,))
    return Case(name, spec, (n,) * inputs, (n,), peer)


def half_gelu(n: int) -> Case:
    """GELU of bf16."""
    body = (
        Load(0, (1,)),
        Op("cast", (0,), "f32"),
        Op("gelu_erf", (1,), "f32"),
        Op("cast", (2,), "bf16"),
    )
    spec = RegionSpec((n,), ("bf16",), body, (Store(3, "bf16", (1,)),))
    return Case("GELU bf16", spec, (n,), (n,), lambda f, x: f.gelu(x))


def bias(rows: int, length: int) -> Case:
    """A vector added to every row."""
    body = (Load(0, (length, 1)), Load(1, (0, 1)), Op("add", (0, 1), "f32"))
    spec = RegionSpec((rows, length), ("f32", "f32"), body, (Store(2, "f32", (length, 1)),))
    name = f"bias {rows} x {length}"
    return Case(
        name, spec, (rows * length, length), (rows * length,),
        lambda f, x, b: x.view(rows, length) + b,
    )  # fmt: skip


def softmax(rows: int, length: int) -> Case:
    """Of rows of f32."""
    body = (
        Load(0, (length, 1)),
        Reduce("max", 0),
        Op("sub", (0, 1), "f32"),
        Op("exp", (2,), "f32"),
        Reduce("sum", 3),
        Op("div", (3, 4), "f32"),
    )
    store = Store(5, "f32", (length, 1))
    spec = RegionSpec((rows, length), ("f32",), body, (store,), (1,))
    size = rows * length
    return Case(
        f"softmax {rows} x {length}", spec, (size,), (size,),
        lambda f, x: f.softmax(x.view(rows, length), 1),
    )  # fmt: skip


def layer_norm(rows: int, length: int, dtype: str = "f32", residual: bool = False) -> Case:
    """With scale and shift in f32, and a sum before it."""
    body: list[Node] = [Load(0, (length, 1)), Load(1, (0, 1)), Load(2, (0, 1))]

    def op(name: str, *args: int) -> int:
        body.append(Op(name, args, "f32"))
        return len(body) - 1

    def mean(node: int) -> int:
        body.append(Reduce("sum", node))
        body.append(Const(1.0 / length, "f32"))
        return op("mul", len(body) - 2, len(body) - 1)

    x = 0 if dtype == "f32" else op("cast", 0)
    if residual:
        body.append(Load(3, (length, 1)))
        other = len(body) - 1
        x = op("add", x, other if dtype == "f32" else op("cast", other))
    centred = op("sub", x, mean(x))
    variance = mean(op("mul", centred, centred))
    body.append(Const(1e-5, "f32"))
    inverse = op("rsqrt", op("add", variance, len(body) - 1))
    y = op("add", op("mul", op("mul", centred, inverse), 1), 2)
    if dtype != "f32":
        body.append(Op("cast", (y,), dtype))
        y = len(body) - 1
    kinds = (dtype, "f32", "f32") + ((dtype,) if residual else ())
    store = Store(y, dtype, (length, 1))
    spec = RegionSpec((rows, length), kinds, tuple(body), (store,), (1,))
    size = rows * length

    def peer(f: Any, x: Any, g: Any, b: Any, *others: Any) -> Any:
        for other in others:
            x = x + other
        x = x.view(rows, length)
        return f.layer_norm(x, (length,), g.to(x.dtype), b.to(x.dtype))

    inputs = (size, length, length) + ((size,) if residual else ())
    name = ("sum, " if residual else "") + f"layer norm {rows} x {length} {dtype}"
    return Case(name, spec, inputs, (size,), peer)


def permuted(shape: tuple[int, ...], order: tuple[int, ...], dtype: str) -> Case:
    """A transposition."""
    strides = dims.row_major(shape)
    domain = tuple(shape[a] for a in order)
    load = Load(0, tuple(strides[a] for a in order))
    spec = RegionSpec(domain, (dtype,), (load,), (Store(0, dtype, dims.row_major(domain)),))
    size = 1
    for extent in shape:
        size *= extent
    name = f"transpose {' x '.join(map(str, shape))} by {order} {dtype}"
    return Case(
        name, spec, (size,), (size,), lambda f, x: x.view(shape).permute(order).contiguous()
    )


def reduced(rows: int, length: int, axis: int, kind: str) -> Case:
    """One reduction of f32."""
    result = "i64" if kind.startswith("arg") else "f32"
    store = Store(1, result, (1, 0) if axis else (0, 1))
    body = (Load(0, (length, 1)), Reduce(kind, 0))
    spec = RegionSpec((rows, length), ("f32",), body, (store,), (axis,))
    return Case(
        f"{kind} {rows} x {length} axis {axis}", spec, (rows * length,),
        (rows if axis else length,), lambda f, x: getattr(x.view(rows, length), kind)(axis),
    )  # fmt: skip


def cases() -> list[Case]:
    """All of the table."""
    large = [
        chain("copy f32", (), N, lambda f, x: x.clone()),
        chain("add f32", ("add",), N, lambda f, x, y: x + y, inputs=2),
        chain("GELU f32", ("gelu_erf",), N, lambda f, x: f.gelu(x)),
        half_gelu(N),
        bias(21845, 3071),
        bias(21845, 3072),
        *(softmax(N // n, n) for n in (64, 512, 2048, 8192, 32768)),
        *(layer_norm(N // n, n) for n in (384, 768, 4096, 16384)),
        layer_norm(N // 384, 384, "bf16", residual=True),
        permuted((8192, 8192), (1, 0), "f32"),
        permuted((8192, 8192), (1, 0), "bf16"),
        permuted((8192, 8192), (1, 0), "i8"),
        permuted((64, 512, 12, 64), (0, 2, 1, 3), "bf16"),
        permuted((64, 512, 12, 64), (0, 2, 3, 1), "f32"),
        reduced(65536, 1024, 1, "sum"),
        reduced(65536, 1024, 0, "sum"),
        reduced(1, N, 1, "sum"),
        reduced(2048, 32768, 1, "argmax"),
    ]
    small = [
        layer_norm(1, 384),
        layer_norm(128, 384),
        layer_norm(128, 768),
        layer_norm(4096, 384),
        layer_norm(4096, 768),
        layer_norm(128, 384, "bf16", residual=True),
        softmax(1536, 128),
        chain("add 128 x 384", ("add",), 128 * 384, lambda f, x, y: x + y, inputs=2),
        reduced(1, 128000, 1, "argmax"),
    ]
    return large + small


def make(spec: RegionSpec) -> CudaKernel:
    """The kernel of a spec."""
    return region_kernel(spec, lookup("sm_90a"), "region")


def replayed(launch: Callable[[], object]) -> float:
    """Median microseconds of ``launch`` in a graph."""
    import torch

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(LAUNCHES):
            launch()
    times: list[float] = []
    for replay in range(REPLAYS + 1):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        graph.replay()
        last.record()
        last.synchronize()
        if replay:
            times.append(first.elapsed_time(last) * 1e3 / LAUNCHES)
    return statistics.median(times)


def compare(device: Device, case: Case, kernel: CudaKernel, code: bytes) -> str:
    """A line of the table; SystemExit for a result that is wrong."""
    import torch

    kinds = {"f32": torch.float32, "bf16": torch.bfloat16, "i8": torch.int8, "i64": torch.int64}
    inputs = [
        torch.randn(n, device="cuda").to(kinds[dtype])
        for dtype, n in zip(case.spec.inputs, case.inputs, strict=True)
    ]
    results = [
        torch.zeros(n, device="cuda", dtype=kinds[store.dtype])
        for store, n in zip(case.spec.outputs, case.results, strict=True)
    ]
    operands = [t.data_ptr() for t in (*inputs, *results)]
    size = device.workspace(kernel, device.values(operands, (), 1))
    work = torch.empty(max(size, 1), dtype=torch.uint8, device="cuda")
    status = torch.zeros(1, dtype=torch.int32, device="cuda")
    places = (work.data_ptr(), status.data_ptr())
    module = device.load(code)
    prepared = device.prepare(module, kernel, "region", operands, (), 1, *places)
    time = replayed(lambda: prepared.run(torch.cuda.current_stream().cuda_stream))
    peer = replayed(lambda: case.peer(torch.nn.functional, *inputs))
    want = case.peer(torch.nn.functional, *inputs).reshape(-1).double()
    error = float((results[0].double() - want).norm() / want.norm())
    if not error < (1e-2 if case.spec.outputs[0].dtype == "bf16" else 1e-4):
        raise SystemExit(f"{case.name}: relative error {error}")
    rate = 1e-6 * case.bytes / time
    return (
        f"{case.name:50} {time:8.2f} us {rate:5.2f} TB/s  PyTorch {peer:8.2f} ({peer / time:.2f})"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cases with this in their names")
    add_options(parser)
    options = parser.parse_args(arguments)
    chosen = [case for case in cases() if options.only in case.name]
    built = build(make, "region", [case.spec for case in chosen], options.work)
    if options.compile_only:
        return
    device = Device()
    for case in chosen:
        print(compare(device, case, *built[case.spec]), flush=True)


if __name__ == "__main__":
    main()
