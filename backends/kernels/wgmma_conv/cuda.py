"""The kernel's text for a spec: the product of wgmma_matmul over rows that are gathered first.

What a product calls p0, p1, ... is made of the convolution's dims, which are q0, q1, ... here.
"""

from __future__ import annotations

import re
from dataclasses import replace

from tilewright.backends.cuda.kernel import CudaKernel, Entry, TensorMap
from tilewright.backends.kernels.f32_conv.spec import pixels
from tilewright.backends.kernels.wgmma_conv.spec import WgmmaConvSpec
from tilewright.backends.kernels.wgmma_matmul import cuda as matmul
from tilewright.backends.target import Target

_DIM = re.compile(r"\bp(\d+)\b")
_PARAMETERS = re.compile(r"long long p0(?:, long long p\d+)*(.*\{\n)")


def emit(spec: WgmmaConvSpec, target: Target, name: str) -> CudaKernel:
    """As `wgmma_matmul.cuda.emit`; X is the matrix itself where windows are single pixels."""
    kernel = matmul.emit(spec.product, target, name, None if spec.pointwise else _gather(spec))
    given = 2 + 2 * spec.rank + spec.epilogue.stride_count
    parameters = ", ".join(f"long long q{i}" for i in range(given))
    made = {i: _DIM.sub(r"q\1", text) for i, text in _dims(spec).items()}
    dims = "".join(f"  const long long p{i} = {text};\n" for i, text in made.items())
    source = _PARAMETERS.sub(lambda found: f"{parameters}{found[1]}{dims}", kernel.source)
    entries = tuple(_renamed(entry, spec) for entry in kernel.entries)
    return CudaKernel(source, entries, _formula(kernel.workspace, spec))


def _dims(spec: WgmmaConvSpec) -> dict[int, str]:
    """The product's dims: pixels, from row to row of X where it is the matrix, from row to row of
    Y, row strides of extras."""
    after = 2 + 2 * spec.rank
    rest = {3 + i: f"p{after + i}" for i in range(spec.epilogue.stride_count)}
    return {0: f"({pixels(spec)})", 1: str(spec.channels), 2: f"p{after - 1}", **rest}


def _formula(text: str, spec: WgmmaConvSpec) -> str:
    dims = _dims(spec)
    return _DIM.sub(lambda found: dims[int(found[1])], text)


def _renamed(entry: Entry, spec: WgmmaConvSpec) -> Entry:
    x, y, z = (_formula(text, spec) for text in entry.grid)
    maps = tuple(_map(one, spec) for one in entry.maps)
    return replace(entry, grid=(x, y, z), maps=maps)


def _map(one: TensorMap, spec: WgmmaConvSpec) -> TensorMap:
    dims = tuple(_formula(text, spec) for text in one.dims)
    return replace(one, dims=dims, strides=tuple(_formula(text, spec) for text in one.strides))


def _gather(spec: WgmmaConvSpec) -> str:
    """Text that fills x, the elements k.. of row m: taps one after the other, channels inside."""
    r = spec.rank
    lines = ["    u32 rest = (u32)m;"]
    for axis in reversed(range(r)):
        lines.append(f"    const u32 o{axis} = rest % (u32)q{1 + r + axis};")
        lines.append(f"    rest /= (u32)q{1 + r + axis};")
    lines += [
        "    const auto place = [&](int k) -> const In * {",
        f"      int tap = k / {spec.channels}; const int channel = k - tap * {spec.channels};",
    ]
    for axis in reversed(range(r)):
        size = spec.kernel[axis]
        lines.append(f"      const int t{axis} = tap % {size}; tap /= {size};")
    lines.append("      i64 at = rest;")
    for axis in range(r):
        moved = f"t{axis} * {spec.dilations[axis]} - {spec.pads[axis]}"
        lines.append(f"      const i64 i{axis} = (i64)o{axis} * {spec.strides[axis]} + {moved};")
        lines.append(f"      if (i{axis} < 0 || i{axis} >= q{1 + axis}) return nullptr;")
        lines.append(f"      at = at * q{1 + axis} + i{axis};")
    lines += [
        f"      return (const In *)a0 + at * {spec.channels} + channel;",
        "    };",
        "    Eight<In> x;",
        f"    if ({spec.channels} % 8 == 0 && (u64)a0 % 16 == 0) {{",
        "      const In *const from = place(k);",
        "      if (from) {",
        "        x = *(const Eight<In> *)from;",
        "      } else {",
        "#pragma unroll",
        "        for (int i = 0; i < 8; i++) x.v[i] = In(0);",
        "      }",
        "    } else {",
        "#pragma unroll",
        "      for (int i = 0; i < 8; i++) {",
        "        const In *const from = k + i < K ? place(k + i) : nullptr;",
        "        x.v[i] = from ? *from : In(0);",
        "      }",
        "    }",
    ]
    return "\n".join(lines) + "\n"
