"""A small decoder with grouped heads, as a prefill and a decode graph of the same weights."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORDS, LAYERS, GROUPS = 40, 2, 2


def decoder_model(past: bool, size: int = 16, heads: int = 4, extra: str = "") -> onnx.ModelProto:
    """logits f32[batch, seq, 40], present_k and present_v f32[2, batch, 2, all, size] of ids, and
    with `past` of past_k and past_v; positions are left out, a causal mask hides later tokens.

    extra: "" or "read", where an output more is computed from past_k.
    """
    random = np.random.default_rng(5)
    width = heads * size
    weights: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []

    def weight(name: str, *shape: int) -> str:
        weights[name] = (random.standard_normal(shape) * shape[0] ** -0.5).astype(np.float32)
        return name

    def numbers(name: str, values: object, dtype: type = np.int64) -> str:
        weights[name] = np.array(values, dtype)
        return name

    def node(kind: str, inputs: list[str], out: str, **fields: object) -> str:
        nodes.append(helper.make_node(kind, inputs, [out], name=f"node_{out}", **fields))
        return out

    # Elements of rows differ in size, as keys of real models do.
    spread = np.exp(random.standard_normal(size)).astype(np.float32)
    x = node("Gather", [weight("table", WORDS, width), "ids"], "x0")
    mask = ""
    if not past:
        shape = node("Shape", ["ids"], "ids_shape")
        seq = node("Gather", [shape, numbers("one", 1)], "seq_length")
        count = node("Range", [numbers("zero", 0), seq, numbers("step", 1)], "count")
        row = node("Unsqueeze", [count, numbers("last", [1])], "row")
        column = node("Unsqueeze", [count, numbers("first", [0])], "column")
        seen = node("LessOrEqual", [column, row], "seen")
        zero, hidden = numbers("none", 0, np.float32), numbers("hidden", -np.inf, np.float32)
        mask = node("Where", [seen, zero, hidden], "mask")
    kept: dict[str, list[str]] = {"k": [], "v": []}
    for i in range(LAYERS):
        rows = {}
        for part, count_ in (("q", heads), ("k", GROUPS), ("v", GROUPS)):
            made = node("MatMul", [x, weight(f"w{part}{i}", width, count_ * size)], f"{part}m{i}")
            split = numbers(f"split{part}{i}", [0, 0, count_, size])
            made = node("Reshape", [made, split], f"{part}s{i}")
            rows[part] = node("Transpose", [made], f"{part}t{i}", perm=[0, 2, 1, 3])
        rows["k"] = node("Mul", [rows["k"], numbers(f"spread{i}", spread, np.float32)], f"kw{i}")
        for part in "kv":
            if past:
                layer = numbers(f"layer{part}{i}", i)
                old = node("Gather", [f"past_{part}", layer], f"past{part}{i}", axis=0)
                rows[part] = node("Concat", [old, rows[part]], f"all{part}{i}", axis=2)
            front = numbers(f"front{part}{i}", [0])
            kept[part].append(node("Unsqueeze", [rows[part], front], f"{part}u{i}"))
            # [b, g, s, d] -> [b, g, 1, s, d] -> [b, heads, s, d]
            middle = numbers(f"middle{part}{i}", [2])
            wide = node("Unsqueeze", [rows[part], middle], f"{part}x{i}")
            times = numbers(f"times{part}{i}", [1, 1, heads // GROUPS, 1, 1])
            wide = node("Expand", [wide, times], f"{part}e{i}")
            shape = numbers(f"merged{part}{i}", [0, heads, -1, size])
            rows[part] = node("Reshape", [wide, shape], f"{part}h{i}")
        turned = node("Transpose", [rows["k"]], f"kt2{i}", perm=[0, 1, 3, 2])
        scores = node("MatMul", [rows["q"], turned], f"scores{i}")
        factor = numbers(f"factor{i}", size**-0.5, np.float32)
        scores = node("Mul", [scores, factor], f"scaled{i}")
        if mask:
            scores = node("Add", [scores, mask], f"masked{i}")
        taken = node("Softmax", [scores], f"weights{i}", axis=-1)
        out = node("MatMul", [taken, rows["v"]], f"mixed{i}")
        out = node("Transpose", [out], f"back{i}", perm=[0, 2, 1, 3])
        out = node("Reshape", [out, numbers(f"flat{i}", [0, 0, width])], f"flatten{i}")
        out = node("MatMul", [out, weight(f"wo{i}", width, width)], f"out{i}")
        x = node("Add", [x, out], f"x{i + 1}")
    node("MatMul", [x, weight("head", width, WORDS)], "logits")
    for part, layers in kept.items():
        node("Concat", layers, f"present_{part}", axis=0)
    whole = "past + 1" if past else "seq"
    outputs = [("logits", ["batch", 1 if past else "seq", WORDS])]
    outputs += [(f"present_{p}", [LAYERS, "batch", GROUPS, whole, size]) for p in "kv"]
    if extra == "read":
        node("Tanh", ["past_k"], "extra")
        outputs.append(("extra", [LAYERS, "batch", GROUPS, "past", size]))
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", 1 if past else "seq"])
    ]
    if past:
        inputs += [
            helper.make_tensor_value_info(
                f"past_{p}", TensorProto.FLOAT, [LAYERS, "batch", GROUPS, "past", size]
            )
            for p in "kv"
        ]
    graph = helper.make_graph(
        nodes,
        "decoder",
        inputs,
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
