"""Spec of the convolution on Hopper's tensor cores."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from tilewright.backends.kernels.f32_conv.spec import ConvSpec, pixels
from tilewright.backends.kernels.family import Layout
from tilewright.backends.kernels.tasks import ConvTask
from tilewright.backends.kernels.wgmma_matmul import spec as matmul
from tilewright.backends.kernels.wgmma_matmul import tiles
from tilewright.backends.kernels.wgmma_matmul.spec import Tile, WgmmaMatmulSpec
from tilewright.backends.target import Target

TILE = matmul.start(1)


@dataclass(frozen=True)
class WgmmaConvSpec(ConvSpec):
    """A ConvSpec of one group with the same args and dims; the others as of WgmmaMatmulSpec."""

    products: int = 1
    element: str = "bf16"
    a: str = "f32"
    c: str = "f32"
    tile: Tile = TILE

    def __post_init__(self) -> None:
        if self.groups != 1:
            raise ValueError("a convolution in groups has no wgmma kernel")

    @property
    def product(self) -> WgmmaMatmulSpec:
        """Output pixels times filters."""
        return WgmmaMatmulSpec(
            self.k,
            self.out_channels,
            self.products,
            self.element,
            self.epilogue,
            self.a,
            self.c,
            self.tile,
        )


def units(spec: WgmmaConvSpec) -> str:
    """Tiles, as of the product."""
    return matmul.units(spec.product).replace("p0", f"{pixels(spec)}")


def scratch_bytes(_spec: WgmmaConvSpec) -> str:
    """None on a CPU: a GPU kernel says its workspace itself."""
    return "0"


def candidates(task: Any, _target: Target) -> tuple[WgmmaConvSpec, ...]:
    """Each class of accuracy, of convolutions in one group."""
    if not isinstance(task, ConvTask) or task.groups != 1:
        return ()
    if not task.channels or not task.out_channels:
        return ()
    known = {f.name: getattr(task, f.name) for f in fields(ConvTask)}
    return tuple(
        WgmmaConvSpec(**known, products=products, element=element, tile=matmul.start(products))
        for element, products in matmul.ACCURACY
    )


def variants(spec: WgmmaConvSpec, target: Target) -> tuple[WgmmaConvSpec, ...]:
    """With the tiles of the product."""
    return tuple(replace(spec, tile=one.tile) for one in tiles.variants(spec.product, target))


def stored(spec: WgmmaConvSpec, operands: tuple[str, ...], result: str) -> WgmmaConvSpec | None:
    """The same with X and Y in these formats; None where it cannot."""
    if matmul.stored(spec.product, operands, result) is None:
        return None
    return replace(spec, a=operands[0], c=result)


def accuracy(spec: WgmmaConvSpec) -> float:
    """Of the product."""
    return matmul.accuracy(spec.product)


def layout(spec: WgmmaConvSpec) -> Layout:
    """Of the product's packed B, whose columns are filters, channels innermost."""
    product = matmul.layout(spec.product)
    return Layout(f"filters as {product.name}", product.bytes)
