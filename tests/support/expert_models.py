"""Mixtures of experts as exporters write them: y f32[n, 64] of x by the two best of four experts,
each Relu(x u) d of 96 hidden channels, weighted by the router's softmax over these two."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, HIDDEN, EXPERTS, BEST = 64, 96, 4, 2


def expert_weights(seed: int = 6) -> dict[str, np.ndarray]:
    """router [64, 4], up [4, 64, 96], down [4, 96, 64]."""
    random = np.random.default_rng(seed)
    scale = {"router": 0.3, "up": 0.15, "down": 0.15}
    shapes = {
        "router": (WIDTH, EXPERTS),
        "up": (EXPERTS, WIDTH, HIDDEN),
        "down": (EXPERTS, HIDDEN, WIDTH),
    }
    return {n: (random.standard_normal(s) * scale[n]).astype(np.float32) for n, s in shapes.items()}


def expert_samples(count: int = 8, rows: int = 40) -> np.ndarray:
    """x f32[count, rows, 64]."""
    return np.random.default_rng(7).standard_normal((count, rows, WIDTH)).astype(np.float32)


class _Graph:
    def __init__(self, weights):
        self.nodes, self.constants = [], dict(weights)

    def __call__(self, op, *inputs, outputs=1, **attributes):
        name = f"{op.lower()}_{len(self.nodes)}"
        made = [f"{name}.{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, name=name, **attributes))
        return made[0] if outputs == 1 else made

    def constant(self, value):
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def model(self, last, domains=()):
        self.nodes.append(helper.make_node("Identity", [last], ["y"], name="last"))
        values = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH])
            for name in ("x", "y")
        ]
        weights = [numpy_helper.from_array(a, n) for n, a in self.constants.items()]
        graph = helper.make_graph(self.nodes, "experts", values[:1], values[1:], weights)
        opsets = [helper.make_opsetid("", 20), *(helper.make_opsetid(d, 1) for d in domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def routed(self):
        """Weights [n, 2] and numbers [n, 2] of the experts of every row."""
        scores = self("MatMul", "x", "router")
        values, which = self("TopK", scores, self.constant(np.array([BEST])), outputs=2, axis=-1)
        return self("Softmax", values, axis=-1), which


def _separate(weights):
    made = {"router": weights["router"]}
    for e in range(EXPERTS):
        made |= {f"up{e}": weights["up"][e], f"down{e}": weights["down"][e]}
    return made


def masked_experts() -> onnx.ModelProto:
    """Every expert sees all rows; its share of a row is 0 where it was not chosen."""
    g = _Graph(_separate(expert_weights()))
    share, which = g.routed()
    total = None
    for e in range(EXPERTS):
        mine = g("Cast", g("Equal", which, g.constant(np.int64(e))), to=TensorProto.FLOAT)
        part = g("ReduceSum", g("Mul", share, mine), g.constant(np.array([1])), keepdims=1)
        y = g("MatMul", g("Relu", g("MatMul", "x", f"up{e}")), f"down{e}")
        y = g("Mul", y, part)
        total = y if total is None else g("Add", total, y)
    return g.model(total)


def gathered_rows() -> onnx.ModelProto:
    """Every expert gets the rows that chose it, as PyTorch's `index_add_` over experts is exported:
    NonZero, Gather, two products, ScatterND that adds."""
    g = _Graph(_separate(expert_weights()))
    share, which = g.routed()
    total = g("Mul", "x", g.constant(np.float32(0)))
    for e in range(EXPERTS):
        found = g("NonZero", g("Equal", which, g.constant(np.int64(e))))
        pair = g("Transpose", found, perm=[1, 0])
        rows = g(
            "Squeeze", g("Slice", *(found, *map(g.constant, ([0], [1], [0])))), g.constant([0])
        )
        x = g("Gather", "x", rows, axis=0)
        y = g("MatMul", g("Relu", g("MatMul", x, f"up{e}")), f"down{e}")
        own = g("Unsqueeze", g("GatherND", share, pair), g.constant([1]))
        at = g("Unsqueeze", rows, g.constant([1]))
        total = g("ScatterND", total, at, g("Mul", y, own), reduction="add")
    return g.model(total)


def gathered_weights() -> onnx.ModelProto:
    """Every row gathers the weights of its experts from [4, K, N], as decoders of one token are
    exported."""
    g = _Graph(expert_weights())
    share, which = g.routed()
    x = g("Unsqueeze", "x", g.constant([1, 2]))
    up = g("Gather", "up", which, axis=0)
    h = g("Relu", g("MatMul", x, up))
    y = g("Squeeze", g("MatMul", h, g("Gather", "down", which, axis=0)), g.constant([2]))
    y = g("Mul", y, g("Unsqueeze", share, g.constant([2])))
    return g.model(g("ReduceSum", y, g.constant([1]), keepdims=0))


def contributed() -> onnx.ModelProto:
    """The operator MoE of com.microsoft, whose weights are [4, N, K]."""
    w = expert_weights()
    turned = {n: np.ascontiguousarray(w[n].transpose(0, 2, 1)) for n in ("up", "down")}
    g = _Graph({"router": w["router"], **turned})
    scores = g("MatMul", "x", "router")
    inputs = ("x", scores, "up", "", "down")
    options = {"k": BEST, "activation_type": "relu", "normalize_routing_weights": 1}
    return g.model(g("MoE", *inputs, domain="com.microsoft", **options), ["com.microsoft"])
