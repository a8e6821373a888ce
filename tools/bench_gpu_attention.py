"""Attention on the GPU beside PyTorch's: `python -m tilewright.tools.bench_gpu_attention`.

Operands are [batch, sequence, heads, size], as projections make them. Both sides are captured into
CUDA graphs of launches that go over sets of operands (3 times the L2, at most SETS), random
numbers; times are medians of replays, microseconds of a launch. PyTorch's are the flash and the
cuDNN back end for bf16, the memory-efficient one for f32 and, since flash takes no mask, for masks,
where they take the operands. Errors are relative, in the L2 norm, against f64.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tilewright.backends.cuda.kernel import CudaKernel
from tilewright.backends.kernels.family import evaluate
from tilewright.backends.kernels.gpu_attention import FAMILY, GpuAttentionSpec
from tilewright.backends.target import lookup
from tilewright.tools.bench.gpu_builds import add_options, build
from tilewright.tools.bench.gpu_kernels import Device

SETS = 48
L2 = 60 << 20
REPLAYS = 7

EXACT = 1 << 27
"""Scores up to which the error is measured."""

LARGEST_ERROR = {"tf32x3": 1e-5, "bf16": 1e-2}


@dataclass(frozen=True)
class Shape:
    """One attention. ``group``: heads for each of K and V. ``math``: bf16, with operands and result
    in bf16, or tf32x3, all f32. ``mask``: whether keys have one, f32, the same for all queries."""

    name: str
    batch: int
    heads: int
    queries: int
    keys: int
    size: int
    group: int = 1
    math: str = "bf16"
    causal: bool = False
    mask: bool = False

    @property
    def spec(self) -> GpuAttentionSpec:
        """Of the kernel."""
        kind = "bf16" if self.math == "bf16" else "f32"
        mask = "f32" if self.mask else None
        size, scale = self.size, self.size**-0.5
        plain = GpuAttentionSpec(size, size, scale, mask, self.causal, math=self.math)
        return replace(plain, q=kind, k=kind, v=kind, y=kind)

    @property
    def dims(self) -> tuple[int, ...]:
        """Of the launch."""
        shared, d = self.heads // self.group, self.size
        q = (self.queries * self.heads * d, d, self.heads * d)
        k = (self.keys * shared * d, d, shared * d)
        offset = self.keys - self.queries
        head = (self.batch, self.heads, self.queries, self.keys, self.group, offset)
        return (*head, *q, *k, *k, *q, *((self.keys, 0, 0, 1) if self.mask else ()))

    @property
    def seen(self) -> float:
        """Scores that count."""
        every = self.batch * self.heads * self.queries * self.keys
        return every / 2 if self.causal and self.queries == self.keys else every


SHAPES = (
    Shape("MiniLM 1 x 128", 1, 12, 128, 128, 32),
    Shape("MiniLM 1 x 128, mask", 1, 12, 128, 128, 32, mask=True),
    Shape("MiniLM 32 x 128", 32, 12, 128, 128, 32),
    Shape("MiniLM 32 x 128, mask", 32, 12, 128, 128, 32, mask=True),
    Shape("MiniLM 1 x 128, f32", 1, 12, 128, 128, 32, math="tf32x3"),
    Shape("MiniLM 32 x 128, f32", 32, 12, 128, 128, 32, math="tf32x3"),
    Shape("BERT 1 x 128", 1, 12, 128, 128, 64),
    Shape("BERT 32 x 128", 32, 12, 128, 128, 64),
    Shape("BERT 32 x 128, mask", 32, 12, 128, 128, 64, mask=True),
    Shape("BERT 32 x 128, f32", 32, 12, 128, 128, 64, math="tf32x3"),
    Shape("GPT-2 1 x 512", 1, 12, 512, 512, 64, causal=True),
    Shape("GPT-2 1 x 1024", 1, 12, 1024, 1024, 64, causal=True),
    Shape("GPT-2 1 x 1024, f32", 1, 12, 1024, 1024, 64, math="tf32x3", causal=True),
    Shape("4 x 2048, 16 of 64", 4, 16, 2048, 2048, 64),
    Shape("4 x 2048, 16 of 128", 4, 16, 2048, 2048, 128),
    Shape("2 x 4096, 16 of 128, causal", 2, 16, 4096, 4096, 128, causal=True),
    Shape("1 x 8192, 16 of 128", 1, 16, 8192, 8192, 128),
    Shape("2 x 2048, 16 of 64, f32", 2, 16, 2048, 2048, 64, math="tf32x3"),
    Shape("codelm prefill 128", 1, 6, 128, 128, 64, group=3, causal=True),
    Shape("codelm decode 128, f32", 1, 6, 1, 128, 64, group=3, math="tf32x3"),
    Shape("codelm decode 1024, f32", 1, 6, 1, 1024, 64, group=3, math="tf32x3"),
    Shape("decode 4096, 32 of 128", 1, 32, 1, 4096, 128, group=4),
    Shape("decode 32768, 32 of 128", 1, 32, 1, 32768, 128, group=4),
    Shape("decode 8 x 8192, 32 of 128", 8, 32, 1, 8192, 128, group=4),
    Shape("decode 8 x 8192, 12 of 64", 8, 12, 1, 8192, 64),
)


def make(spec: GpuAttentionSpec) -> CudaKernel:
    """The kernel of a spec."""
    assert FAMILY.cuda is not None
    return FAMILY.cuda(spec, lookup("sm_90a"), "attention")


class Bench:
    """Operands of one shape and graphs over them."""

    def __init__(self, device: Device, shape: Shape) -> None:
        import torch

        self.torch, self.device, self.shape = torch, device, shape
        kind = torch.bfloat16 if shape.math == "bf16" else torch.float32
        shared = shape.heads // shape.group
        q = (shape.batch, shape.queries, shape.heads, shape.size)
        k = (shape.batch, shape.keys, shared, shape.size)
        self.bytes = (
            (2 if shape.math == "bf16" else 4)
            * 2
            * (q[0] * q[1] * q[2] * q[3] + k[0] * k[1] * k[2] * k[3])
        )
        self.count = max(2, min(SETS, -(-3 * L2 // self.bytes)))
        self.sets = []
        for _ in range(self.count):
            made = [torch.randn(s, device="cuda", dtype=kind) for s in (q, k, k)]
            self.sets.append((*made, torch.empty(q, device="cuda", dtype=kind)))
        self.mask = torch.randn((shape.batch, shape.keys), device="cuda")
        self.keep: list[Any] = []

    def graph(self, launch: Callable[[int], None]) -> Any:
        """Of ``launch`` on every set."""
        torch = self.torch
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            launch(0)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for i in range(self.count):
                launch(i)
        return graph

    def ours(self, kernel: CudaKernel, code: bytes) -> Any:
        """A graph of the kernel."""
        torch, device, dims = self.torch, self.device, self.shape.dims
        module = device.load(code)
        units = evaluate(FAMILY.units(self.shape.spec), dims)
        status = torch.zeros(1, dtype=torch.int32, device="cuda")
        extra = [self.mask.data_ptr()] if self.shape.mask else []
        work, prepared = None, []
        for q, k, v, y in self.sets:
            operands = [q.data_ptr(), k.data_ptr(), v.data_ptr(), *extra, y.data_ptr()]
            if work is None:
                size = device.workspace(kernel, device.values(operands, dims, units))
                work = torch.empty(max(size, 1), dtype=torch.uint8, device="cuda")
            places = (work.data_ptr(), status.data_ptr())
            prepared.append(
                device.prepare(module, kernel, "attention", operands, dims, units, *places)
            )
        self.keep += [prepared, module, work, status]
        return self.graph(lambda i: prepared[i].run(torch.cuda.current_stream().cuda_stream))

    def peer(self, backend: Any) -> Any:
        """A graph of PyTorch's attention; RuntimeError where the back end does not take it."""
        attend = self.torch.nn.functional.scaled_dot_product_attention
        shape = self.shape
        details = {
            "is_causal": shape.causal and shape.queries == shape.keys,
            "enable_gqa": shape.group > 1,
        }
        if shape.mask:
            low = self.mask.to(self.sets[0][0].dtype).view(shape.batch, 1, 1, shape.keys)
            self.keep.append(low)
            full = low.expand(shape.batch, shape.heads, shape.queries, shape.keys)
            details["attn_mask"] = full

        def launch(i: int) -> None:
            q, k, v = (x.transpose(1, 2) for x in self.sets[i][:3])
            with self.torch.nn.attention.sdpa_kernel(backend):
                attend(q, k, v, **details)

        return self.graph(launch)

    def measure(self, graph: Any) -> float:
        """Median microseconds of a launch."""
        torch = self.torch
        times: list[float] = []
        for _ in range(3):
            graph.replay()
        for _ in range(REPLAYS):
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            graph.replay()
            last.record()
            last.synchronize()
            times.append(first.elapsed_time(last) * 1e3 / self.count)
        return statistics.median(times)

    def error(self) -> float | None:
        """Of the last set; None where there are too many scores."""
        torch, shape = self.torch, self.shape
        if shape.batch * shape.heads * shape.queries * shape.keys > EXACT:
            return None
        q, k, v, y = (x.transpose(1, 2).double() for x in self.sets[-1])
        k, v = (x.repeat_interleave(shape.group, 1) for x in (k, v))
        scores = q @ k.transpose(2, 3) * shape.size**-0.5
        if shape.mask:
            scores += self.mask.view(shape.batch, 1, 1, shape.keys)
        if shape.causal:
            seen = torch.ones(scores.shape[2:], dtype=torch.bool, device="cuda")
            scores.masked_fill_(~seen.tril(shape.keys - shape.queries), float("-inf"))
        exact = scores.softmax(-1) @ v
        return float((y - exact).norm() / exact.norm())


def compare(device: Device, shape: Shape, kernel: CudaKernel, code: bytes) -> str:
    """A line of the table; SystemExit for a result that is wrong."""
    import torch

    backends = torch.nn.attention.SDPBackend
    peers = {"efficient": backends.EFFICIENT_ATTENTION}
    if shape.math == "bf16":
        other = {} if shape.mask else {"flash": backends.FLASH_ATTENTION}
        peers = {**other, "cuDNN": backends.CUDNN_ATTENTION, **(peers if shape.mask else {})}
    bench = Bench(device, shape)
    graph = bench.ours(kernel, code)
    for *_, y in bench.sets:
        y.fill_(float("nan"))
    time = bench.measure(graph)
    error = bench.error()
    if error is not None and not error < LARGEST_ERROR[shape.math]:
        raise SystemExit(f"{shape.name}: relative error {error}")
    found = []
    for name, backend in peers.items():
        try:
            theirs = bench.measure(bench.peer(backend))
        except RuntimeError:
            found.append(f"{name} -")
            continue
        found.append(f"{name} {theirs:.1f} ({theirs / time:.2f})")
    rate = 4e-6 * shape.seen * shape.size / time
    accurate = "-" if error is None else f"{error:.0e}"
    return (
        f"{shape.name:28} {time:8.1f} us {rate:5.0f} TFLOP/s {1e-6 * bench.bytes / time:5.2f} TB/s"
        f"  {accurate:5}  {'  '.join(found)}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="shapes with this in their names")
    add_options(parser)
    options = parser.parse_args(arguments)
    shapes = [shape for shape in SHAPES if options.only in shape.name]
    built = build(make, "attention", [shape.spec for shape in shapes], options.work)
    if options.compile_only:
        return
    device = Device()
    warnings.simplefilter("ignore")
    for shape in shapes:
        print(compare(device, shape, *built[shape.spec]), flush=True)


if __name__ == "__main__":
    main()
