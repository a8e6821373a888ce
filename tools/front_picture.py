"""A front of error, size and time as a picture: SVG, without any library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import floor, log10, sqrt
from typing import Any

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 30, 40, 50
LARGEST = 16.0
"""Radius of the largest artifact's circle in pixels; areas are in the ratio of bytes."""

LEAST = 1e-7
"""Errors below are drawn there: the axis is logarithmic."""

COLORS = {"latency": "#1f6fb2", "size": "#c2571a"}


def picture(title: str, points: Sequence[Mapping[str, Any]]) -> str:
    """`points` of front.json: error to the right (logarithmic), milliseconds upwards, bytes as the
    area of circles. Points that another dominates are hollow."""
    made = [p for p in points if p["artifact"] is not None]
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
            ' font-family="sans-serif" font-size="12">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 20, f"{title}: error, time and size (area) of measured artifacts"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "relative L2 error on held-out samples"),
        _text(16, HEIGHT / 2, "milliseconds", turn=True),
    ]
    if made:
        parts += _drawn(made)
    return "\n".join([*parts, "</svg>", ""])


def _drawn(made: Sequence[Mapping[str, Any]]) -> list[str]:
    logs = [log10(max(p["error"], LEAST)) for p in made]
    low, high = floor(min(logs)), floor(max(logs)) + 1
    slowest: float = max(p["milliseconds"] for p in made) * 1.1
    most = max(p["bytes"] for p in made)
    tallest = HEIGHT - TOP - BOTTOM

    def across(exponent: float) -> float:
        return LEFT + (exponent - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def up(milliseconds: float) -> float:
        return HEIGHT - BOTTOM - milliseconds / slowest * tallest

    parts = []
    for whole in range(low, high + 1):
        x = across(whole)
        parts.append(_line(x, TOP, x, HEIGHT - BOTTOM))
        parts.append(_text(x, HEIGHT - BOTTOM + 18, f"{10.0**whole:g}"))
    for i in range(5):
        y = up(slowest * i / 4)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text(LEFT - 8, y + 4, f"{slowest * i / 4:.3g}", anchor="end"))
    for point, exponent in zip(made, logs, strict=True):
        color = COLORS[point["optimize"]]
        radius = LARGEST * sqrt(point["bytes"] / most)
        fill = "none" if point["dominated"] else color
        parts.append(
            f'<circle cx="{across(exponent):.1f}" cy="{up(point["milliseconds"]):.1f}"'
            f' r="{radius:.1f}" fill="{fill}" fill-opacity="0.6" stroke="{color}">'
            f"<title>bound {point['bound']:g}, {point['bytes']:,} bytes</title></circle>"
        )
    for i, (objective, color) in enumerate(COLORS.items()):
        x = WIDTH - RIGHT - 150
        parts.append(f'<circle cx="{x}" cy="{TOP + 12 + 18 * i}" r="5" fill="{color}"/>')
        parts.append(_text(x + 12, TOP + 16 + 18 * i, f"made for {objective}", anchor="start"))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str = "middle", turn: bool = False) -> str:
    rotated = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{rotated}>{escape(text)}</text>'
