"""Convolutions of given output pixels, output channels and sums, for the test of odd shapes."""

from __future__ import annotations

import random
from dataclasses import replace

from tilewright.backends.kernels.f32_conv.cases import RESIDUAL, conv_case, operands, with_extremes
from tilewright.backends.kernels.f32_conv.packing import pack
from tilewright.backends.kernels.f32_conv.spec import ConvSpec
from tilewright.backends.kernels.family import Case
from tilewright.backends.llvm.epilogue import IDENTITY


def shaped(m: int, n: int, k: int) -> tuple[Case, ...]:
    """By turns of m: a filter over all channels, one in groups, one depthwise over n channels."""
    if m % 3 == 2 and n > 1:
        spec = replace(odd_spec(n, k, channels=1), channels=n, groups=n)
    else:
        spec = odd_spec(n, k, grouped=m % 3 == 1)
    return (_case(spec, m),)


def _case(spec: ConvSpec, m: int) -> Case:
    sizes, out = odd_sizes(spec, m)
    x, weights = operands(spec, sizes)
    x, note = (with_extremes(x), "-inf") if special(m) else (x, "")
    packed = pack(weights, spec)
    return conv_case(spec, x, weights, packed, rtol=2e-5, atol=1e-4, note=note, out=out)


def special(m: int) -> bool:
    """Whether a launch of ``m`` pixels gets NaN, infinity and a subnormal number."""
    return m % 2 == 0


def odd_spec(
    n: int, k: int, *, channels: int = 0, grouped: bool = False, rank: int = 3, thin: bool = False
) -> ConvSpec:
    """``n`` output channels and sums of ``k``, the product of taps and of a group's channels.

    Drawn by (n, k): the channels, a divisor of k (if given, k are the taps alone), the shape of
    the taps, up to ``rank`` axes; strides to 3, dilations to 2 (``thin``: none along the last
    axis), padding to the filter's reach, an epilogue; if ``grouped``, as many groups as divide n.
    """
    draw = random.Random(f"{n} {k} {grouped}")
    inner = channels or draw.choice(_divisors(k))
    taps = k if channels else k // inner
    kernel = _factors(taps, draw.randint(1, rank), draw)
    dilations = [draw.randint(1, 2) for _ in kernel]
    if thin:
        dilations[-1] = 1
    groups = draw.choice(_divisors(n)) if grouped else 1
    return ConvSpec(
        channels=inner * groups,
        out_channels=n,
        kernel=kernel,
        strides=tuple(draw.randint(1, 3) for _ in kernel),
        pads=tuple(draw.randint(0, (t - 1) * d) for t, d in zip(kernel, dilations, strict=True)),
        dilations=tuple(dilations),
        groups=groups,
        epilogue=draw.choice((IDENTITY, RESIDUAL)),
    )


def odd_sizes(spec: ConvSpec, m: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Images and input extents, and the output extents, ``m`` pixels in all. Drawn by spec and m:
    padding after the image that is not the padding before it, or pixels that strides leave over.
    """
    draw = random.Random(f"{spec.kernel} {spec.strides} {spec.pads} {m}")
    images, *outputs = _factors(m, 1 + spec.rank, draw)
    sizes = [images]
    for o, t, s, p, d in zip(
        outputs, spec.kernel, spec.strides, spec.pads, spec.dilations, strict=True
    ):
        end = (o - 1) * s + (t - 1) * d + 1 - p
        sizes.append(draw.randint(max(1, end - (t - 1) * d), end + s - 1))
    return tuple(sizes), tuple(outputs)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def _factors(number: int, count: int, draw: random.Random) -> tuple[int, ...]:
    """``count`` numbers whose product is ``number``."""
    out = []
    for _ in range(count - 1):
        out.append(draw.choice(_divisors(number)))
        number //= out[-1]
    out.append(number)
    draw.shuffle(out)
    return tuple(out)
