"""Bytes to a checked ModelProto: what can be refused before any operator is looked at."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]
from onnx import IR_VERSION, FunctionProto, ModelProto, NodeProto
from onnx.defs import onnx_opset_version

from tilewright.compiler.errors import UserError
from tilewright.compiler.frontend import registry
from tilewright.compiler.frontend.external import ExternalFiles
from tilewright.compiler.frontend.functions import (
    FunctionKey,
    has_body,
    local_functions,
    normal,
    schema_of,
)
from tilewright.compiler.frontend.order import subgraphs
from tilewright.compiler.frontend.wire import WireError, split

Source = str | os.PathLike[str] | bytes | ModelProto


@dataclass(frozen=True)
class Model:
    """A parsed model: `raws[i]` are the bytes of initializer i where they stayed in the file."""

    proto: ModelProto
    raws: tuple[np.ndarray | None, ...]
    files: ExternalFiles
    name: str
    functions: Mapping[FunctionKey, FunctionProto]
    opsets: Mapping[str, int]


def parse(source: Source) -> Model:
    """Parse and check a model given as a path, as bytes or as a ModelProto.

    Raises UserError when it cannot be read, is not an ONNX model, or is newer than the installed
    onnx package.
    """
    folder = None
    raws: tuple[np.ndarray | None, ...] = ()
    if isinstance(source, ModelProto):
        name, proto = "model", source
        raws = (None,) * len(proto.graph.initializer)
    elif isinstance(source, bytes):
        name = "model"
        proto, raws = _parse_bytes(np.frombuffer(source, np.uint8), name)
    else:
        path = Path(source)
        name, folder = path.name, path.parent
        proto, raws = _parse_bytes(_map(path), name)
    _check_text(proto, name)
    _check(proto, name)
    opsets = {normal(o.domain): o.version for o in proto.opset_import}
    model = Model(proto, raws, ExternalFiles(folder), name, local_functions(proto), opsets)
    _refuse_unsupported(model)
    return model


def _map(path: Path) -> np.ndarray:
    try:
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise UserError(str(path), f"the model file {what}", "", "check the path")
        if path.stat().st_size == 0:
            raise UserError(str(path), "the model file is empty", "", "copy the file again")
        return np.memmap(path, np.uint8, "r")
    except OSError as error:
        raise UserError(str(path), f"cannot read the model: {error.strerror}") from None


def _parse_bytes(data: np.ndarray, name: str) -> tuple[ModelProto, tuple[np.ndarray | None, ...]]:
    hint = "check that the file is complete (Git LFS pointers and partial downloads are not)"
    try:
        slim, spans = split(data.data)
        proto = ModelProto.FromString(slim)
    except (WireError, DecodeError) as error:
        raise UserError(name, "not an ONNX model, or damaged", str(error), hint) from None
    if len(spans) != len(proto.graph.initializer):
        found = f"{len(proto.graph.initializer)} initializers, {len(spans)} tensors"
        raise UserError(name, "not an ONNX model, or damaged", found, hint)
    return proto, tuple(None if s is None else data[s.start : s.stop] for s in spans)


def _check_text(message: Message, name: str) -> None:
    """Refuse text that is not UTF-8 (protobuf gives it as bytes) in any field."""
    for field, content in message.ListFields():
        if field.type == FieldDescriptor.TYPE_STRING:
            texts = [content] if isinstance(content, str | bytes) else content
            bad = next((t for t in texts if isinstance(t, bytes)), None)
            if bad is not None:
                found = f"{field.full_name}: {bad[:40]!r}"
                raise UserError(name, "text that is not UTF-8, the model is damaged", found)
        elif field.type == FieldDescriptor.TYPE_MESSAGE:
            parts = [content] if isinstance(content, Message) else content
            for part in parts:
                _check_text(part, name)


def _check(proto: ModelProto, name: str) -> None:
    if proto.ir_version <= 0 or not proto.HasField("graph"):
        found = f"ir_version {proto.ir_version}, graph {proto.HasField('graph')}"
        raise UserError(name, "not an ONNX model", found, "check the path")
    if proto.ir_version > IR_VERSION:
        found = f"found IR version {proto.ir_version}, known up to {IR_VERSION}"
        raise UserError(name, "the model is too new", found, "update the onnx package")
    if not proto.opset_import:
        hint = "export the model again with an opset version"
        raise UserError(name, "the model imports no operator set", "", hint)
    for opset in proto.opset_import:
        newest = onnx_opset_version()
        if normal(opset.domain) == "" and not 1 <= opset.version <= newest:
            found = f"found opset {opset.version}, known up to {newest}"
            hint = "export with an older opset, or update the onnx package"
            raise UserError(name, "the operator set version is unknown", found, hint)
    if not proto.graph.output:
        raise UserError(name, "the graph has no outputs", "", "check the export")
    for kind, names in (
        ("input", [i.name for i in proto.graph.input]),
        ("output", [o.name for o in proto.graph.output]),
        ("initializer", [t.name for t in proto.graph.initializer]),
    ):
        seen: set[str] = set()
        for item in names:
            if item in seen or not item:
                what = f"two {kind}s are called {item!r}" if item else f"an {kind} has no name"
                raise UserError(name, what, "", "export the model again")
            seen.add(item)


def _refuse_unsupported(model: Model) -> None:
    """One error that lists every operator that cannot be imported."""
    missing: dict[tuple[str, str, int], list[str]] = {}
    for node, opsets in _all_nodes(model):
        domain = normal(node.domain)
        key = (domain, node.op_type, node.overload)
        version = opsets.get(domain)
        if key in model.functions or version is None:
            continue
        schema = schema_of(domain, node.op_type, version)
        since = schema.since_version if schema is not None else version
        if registry.importer(domain, node.op_type, since) is not None:
            continue
        if schema is None or not has_body(schema):
            name = node.name or next((o for o in node.output if o), "")
            missing.setdefault((domain, node.op_type, since), []).append(name)
    if not missing:
        return
    lines = []
    for (domain, op_type, since), names in sorted(missing.items()):
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        full = f"{domain}.{op_type}" if domain else op_type
        lines.append(f"{full} (opset {since}) x{len(names)}: {shown}")
    hint = "export the model without these operators, or replace them by supported ones"
    raise UserError(model.name, "operators that are not supported", "\n  ".join(lines), hint)


def _all_nodes(model: Model) -> Iterator[tuple[NodeProto, Mapping[str, int]]]:
    """Every node of the model with its opset imports: subgraphs and called functions too."""
    called: set[FunctionKey] = set()
    blocks: list[tuple[list[NodeProto], Mapping[str, int]]] = []
    blocks.append((list(model.proto.graph.node), model.opsets))
    while blocks:
        nodes, opsets = blocks.pop()
        for node in nodes:
            yield node, opsets
            blocks.extend((list(graph.node), opsets) for graph in subgraphs(node))
            key = (normal(node.domain), node.op_type, node.overload)
            function = model.functions.get(key)
            if function is not None and key not in called:
                called.add(key)
                own = {normal(o.domain): o.version for o in function.opset_import}
                blocks.append((list(function.node), {**opsets, **own}))
