"""Large tensors are left in the file: the model is parsed without the bytes of its weights.

`split` walks the protobuf wire format of a ModelProto (protobuf.dev/programming-guides/encoding)
down to the initializers of the main graph and cuts out their raw_data; what remains is small, also
for models beyond protobuf's 2 GiB limit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_LEAST = 1024
"""Shorter raw_data stays in the message."""


class WireError(Exception):
    """The bytes are not a protobuf message; the text says at which offset and why."""


@dataclass(frozen=True)
class Span:
    """Bytes `start`..`stop` of the model file."""

    start: int
    stop: int


@dataclass(frozen=True)
class _Field:
    number: int
    kind: int
    start: int
    payload: int
    stop: int


def split(data: memoryview) -> tuple[bytes, list[Span | None]]:
    """The model without large raw_data, and per initializer where its raw_data is.

    None where the message still has it. Raises WireError for malformed or truncated bytes.
    """
    spans: list[Span | None] = []
    out = bytearray()
    for field in _fields(data, 0, len(data)):
        if field.number == _GRAPH and field.kind == 2:
            _nest(out, _GRAPH, _graph(data, field, spans))
        else:
            out += data[field.start : field.stop]
    return bytes(out), spans


def _graph(data: memoryview, graph: _Field, spans: list[Span | None]) -> bytes:
    out = bytearray()
    for field in _fields(data, graph.payload, graph.stop):
        if field.number == _INITIALIZER and field.kind == 2:
            tensor, span = _tensor(data, field)
            spans.append(span)
            _nest(out, _INITIALIZER, tensor)
        else:
            out += data[field.start : field.stop]
    return bytes(out)


def _tensor(data: memoryview, tensor: _Field) -> tuple[bytes, Span | None]:
    out, span = bytearray(), None
    for field in _fields(data, tensor.payload, tensor.stop):
        large = field.stop - field.payload >= _LEAST
        if field.number == _RAW_DATA and field.kind == 2 and large:
            span = Span(field.payload, field.stop)
        else:
            out += data[field.start : field.stop]
    return bytes(out), span


def _nest(out: bytearray, number: int, payload: bytes) -> None:
    out += _varint_bytes(number << 3 | 2)
    out += _varint_bytes(len(payload))
    out += payload


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: memoryview, at: int, stop: int) -> tuple[int, int]:
    value = shift = 0
    while at < stop and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise WireError(f"a number at byte {at} does not end")


def _fields(data: memoryview, at: int, stop: int) -> Iterator[_Field]:
    while at < stop:
        start = at
        tag, at = _varint(data, at, stop)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise WireError(f"byte {start} starts a field with number 0")
        if kind == 0:
            payload, (_, at) = at, _varint(data, at, stop)
        elif kind == 2:
            length, payload = _varint(data, at, stop)
            at = payload + length
        elif kind in (1, 5):
            payload, at = at, at + (8 if kind == 1 else 4)
        else:
            raise WireError(f"byte {start} starts a field of unknown kind {kind}")
        if at > stop:
            raise WireError(f"the field at byte {start} ends at byte {at}, its container at {stop}")
        yield _Field(number, kind, start, payload, at)
