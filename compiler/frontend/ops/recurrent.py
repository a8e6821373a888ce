"""LSTM, GRU and RNN as loops over time.

The input's share of all gates is one contraction over all steps before the loop; the loop carries
the states and adds the recurrent share. Sequences shorter than the batch's keep their state and
yield zeros; a reversed direction reverses each sequence within its own length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tilewright.compiler.frontend.context import Import
from tilewright.compiler.frontend.node import Node
from tilewright.compiler.frontend.ops.gate_functions import gate_functions
from tilewright.compiler.frontend.registry import onnx_op
from tilewright.compiler.frontend.terms import Term, block, concat, fill, iota
from tilewright.compiler.ir.core import Value
from tilewright.compiler.ir.dims import Dim
from tilewright.compiler.ir.ops import control, shape
from tilewright.compiler.ir.types import DType, TensorType

Activations = Sequence[Callable[[Term], Term]]
Step = Callable[[Term, Sequence[Term]], Sequence[Term]]
"""(input share of the gates [B, gates * H], states [B, H]..) -> new states; the first is H_t."""


@dataclass(frozen=True)
class _Cell:
    """The weights of one direction: w [gates*H, I], r [gates*H, H], biases [gates*H], p [3*H]."""

    w: Term
    r: Term
    w_bias: Term | None
    r_bias: Term | None
    peepholes: tuple[Term, ...]
    hidden: int
    activations: Activations
    clip: float

    def gate(self, term: Term, index: int, axis: int) -> Term:
        """Gate `index` of a tensor with all gates along `axis`."""
        return term.slice(axis, index * self.hidden, self.hidden)

    def clipped(self, x: Term) -> Term:
        return x.clip(-self.clip, self.clip) if self.clip else x


class _Recurrent:
    """What the three operators share: operands brought to [S, B, ..], directions, the loop."""

    def __init__(self, ctx: Import, node: Node, gates: int, defaults: tuple[str, ...]) -> None:
        self.ctx, self.node, self.gates, self.defaults = ctx, node, gates, defaults
        self.batch_first = bool(node.attr("layout", 0))
        x = Term(ctx, node.input(0))
        self.x = x.transpose(1, 0, 2) if self.batch_first else x
        direction = node.attr("direction", "forward")
        table = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
        if direction not in table:
            ctx.fail(node, f"direction {direction!r} is none of {', '.join(table)}")
        self.reversed = table[direction]
        hidden = node.input(2).shape[2]
        if not isinstance(hidden, int):
            ctx.fail(node, f"the hidden size {hidden} must be known")
        self.hidden = hidden
        lengths = node.maybe(4)
        self.lengths = None if lengths is None else Term(ctx, lengths).cast(DType.I64)

    @property
    def steps(self) -> Dim:
        return self.x.dims[0]

    @property
    def batch(self) -> Dim:
        return self.x.dims[1]

    def cell(self, direction: int) -> _Cell:
        """The weights and activations of one direction."""
        node, ctx = self.node, self.ctx
        count = len(self.defaults)

        def row(index: int) -> Term | None:
            value = node.maybe(index)
            if value is None:
                return None
            array = ctx.array(value)
            if array is not None:
                return Term(ctx, ctx.constant(array[direction]))
            return Term(ctx, value).slice(0, direction, 1).squeeze(0)

        w, r, bias = row(1), row(2), row(3)
        assert w is not None
        assert r is not None
        half = self.gates * self.hidden
        peephole = row(7) if node.op_type == "LSTM" else None
        names = node.attr("activations", None) or self.defaults * len(self.reversed)
        names = names[direction * count : (direction + 1) * count]
        alphas, betas = node.attr("activation_alpha", None), node.attr("activation_beta", None)
        functions = gate_functions(ctx, node, names, alphas, betas, direction * count)
        return _Cell(
            w,
            r,
            None if bias is None else bias.slice(0, 0, half),
            None if bias is None else bias.slice(0, half, half),
            () if peephole is None else tuple(peephole.split(0, (self.hidden,) * 3)),
            self.hidden,
            functions,
            float(node.attr("clip", 0.0) or 0.0),
        )

    def state(self, index: int, direction: int) -> Term:
        """The initial state of input `index`, [B, H]."""
        value = self.node.maybe(index)
        if value is None:
            return fill(self.ctx, 0.0, self.x.dtype, (self.batch, self.hidden))
        axis = 1 if self.batch_first else 0
        picked = Term(self.ctx, value).slice(axis, direction, 1).squeeze(axis)
        return Term(self.ctx, self.ctx.relabel(picked.value, (self.batch, self.hidden), "state"))

    def turned(self, x: Term) -> Term:
        """x: [S, B, ..] with every sequence reversed within its own length."""
        assert self.lengths is not None
        time = iota(self.ctx, self.steps).reshape(self.steps, 1)
        mirrored = self.lengths - 1 - time
        index = (mirrored < 0).where(time, mirrored, DType.I64)
        across = iota(self.ctx, self.batch).broadcast(self.steps, self.batch)
        pairs = concat([index.unsqueeze(-1), across.unsqueeze(-1)], -1)
        return x.apply(shape.GatherNd, indices=pairs.value)

    def run(
        self,
        cell: _Cell,
        backwards: bool,
        states: Sequence[Term],
        step: Step,
        all_biases: bool = True,
    ) -> list[Term]:
        """The states of all steps [S, B, H], then the final states [B, H].

        With `all_biases` the recurrent biases are added before the loop too.
        """
        ctx = self.ctx
        x = self.turned(self.x) if backwards and self.lengths is not None else self.x
        flip = backwards and self.lengths is None
        inputs = x.contract("sbi,gi->sbg", cell.w)
        if cell.w_bias is not None:
            inputs = inputs + cell.w_bias
        if all_biases and cell.r_bias is not None:
            inputs = inputs + cell.r_bias
        types = [TensorType(DType.I64, ()), *(s.value.type for s in states)]
        types.append(TensorType(x.dtype, inputs.dims[1:]))

        def body(params: list[Term]) -> list[Term]:
            old = params[1:-1]
            new = list(step(params[-1], old))
            piece = new[0]
            if self.lengths is not None:
                active = (params[0] < self.lengths).reshape(self.batch, 1)
                piece = active.where(new[0], 0.0, x.dtype)
                new = [active.where(n, o, x.dtype) for n, o in zip(new, old, strict=True)]
            going = Term(ctx, ctx.scalar(True, DType.BOOL))
            return [going, *new, piece]

        results = ctx.emit_multi(
            control.Loop,
            carried=tuple(s.value for s in states),
            scanned=(inputs.value,),
            trips=self.steps,
            length=self.steps,
            scan_axes=(0,),
            scan_reverse=(flip,),
            stack_axes=(0,),
            stack_reverse=(flip,),
            body=block(ctx, types, body),
        )
        out = [Term(ctx, r) for r in results]
        sequence = out[-1]
        if backwards and self.lengths is not None:
            sequence = self.turned(sequence)
        return [sequence, *out[:-1]]

    def joined(self, runs: Sequence[Sequence[Term]]) -> tuple[Value | None, ...]:
        """The outputs of the node from [sequence, states..] of every direction."""
        outputs: list[Value | None] = []
        for i in range(self.node.n_outputs):
            if not self.node.wants(i):
                outputs.append(None)
                continue
            axis = 1 if i == 0 else 0
            term = concat([run[i].unsqueeze(axis) for run in runs], axis)
            if self.batch_first:
                term = term.transpose(2, 0, 1, 3) if i == 0 else term.transpose(1, 0, 2)
            outputs.append(term.value)
        return tuple(outputs)


@onnx_op("RNN")
def rnn(ctx: Import, node: Node) -> tuple[Value | None, ...]:
    """`H_t = f(X_t W' + H_{t-1} R' + biases)`; results Y, Y_h."""
    net = _Recurrent(ctx, node, 1, ("Tanh",))
    runs = []
    for direction, backwards in enumerate(net.reversed):
        cell = net.cell(direction)

        def step(share: Term, states: Sequence[Term], cell: _Cell = cell) -> list[Term]:
            total = _recurrent(cell, share, states[0])
            return [cell.activations[0](cell.clipped(total))]

        runs.append(net.run(cell, backwards, [net.state(5, direction)], step))
    return net.joined(runs)


def _recurrent(cell: _Cell, share: Term, state: Term) -> Term:
    """The input's share plus the state's: [B, gates * H]."""
    return share + state.contract("bh,gh->bg", cell.r)


@onnx_op("LSTM")
def lstm(ctx: Import, node: Node) -> tuple[Value | None, ...]:
    """Gates i, o, f, c with optional peepholes; results Y, Y_h, Y_c."""
    net = _Recurrent(ctx, node, 4, ("Sigmoid", "Tanh", "Tanh"))
    coupled = bool(node.attr("input_forget", 0))
    runs = []
    for direction, backwards in enumerate(net.reversed):
        cell = net.cell(direction)

        def step(share: Term, states: Sequence[Term], cell: _Cell = cell) -> list[Term]:
            return _lstm_step(cell, share, states, coupled)

        states = [net.state(5, direction), net.state(6, direction)]
        runs.append(net.run(cell, backwards, states, step))
    return net.joined(runs)


def _lstm_step(cell: _Cell, share: Term, states: Sequence[Term], coupled: bool) -> list[Term]:
    hidden, memory = states
    total = _recurrent(cell, share, hidden)
    i, o, f, c = (cell.gate(total, g, 1) for g in range(4))
    first, second, third = cell.activations

    def peeped(gate: Term, index: int, source: Term) -> Term:
        if not cell.peepholes:
            return cell.clipped(gate)
        return cell.clipped(gate + cell.peepholes[index] * source)

    i = first(peeped(i, 0, memory))
    f = 1.0 - i if coupled else first(peeped(f, 2, memory))
    fresh = f * memory + i * second(cell.clipped(c))
    o = first(peeped(o, 1, fresh))
    return [o * third(fresh), fresh]


@onnx_op("GRU")
def gru(ctx: Import, node: Node) -> tuple[Value | None, ...]:
    """Gates z, r, h; results Y, Y_h."""
    net = _Recurrent(ctx, node, 3, ("Sigmoid", "Tanh"))
    linear = bool(node.attr("linear_before_reset", 0))
    size = net.hidden
    runs = []
    for direction, backwards in enumerate(net.reversed):
        cell = net.cell(direction)
        # Only the plain form multiplies the state by two matrices one after the other.
        parts = [] if linear else cell.r.split(0, (2 * size, size))

        def step(
            share: Term, states: Sequence[Term], cell: _Cell = cell, parts: Sequence[Term] = parts
        ) -> list[Term]:
            if linear:
                return [_gru_linear_step(cell, share, states[0])]
            return [_gru_step(cell, parts, share, states[0])]

        states = [net.state(5, direction)]
        runs.append(net.run(cell, backwards, states, step, all_biases=not linear))
    return net.joined(runs)


def _gru_linear_step(cell: _Cell, share: Term, state: Term) -> Term:
    """The reset gate scales the recurrent share of the candidate (linear_before_reset)."""
    recurrent = state.contract("bh,gh->bg", cell.r)
    if cell.r_bias is not None:
        recurrent = recurrent + cell.r_bias
    inputs, mixed = ([cell.gate(t, g, 1) for g in range(3)] for t in (share, recurrent))
    z = cell.activations[0](cell.clipped(inputs[0] + mixed[0]))
    r = cell.activations[0](cell.clipped(inputs[1] + mixed[1]))
    candidate = cell.activations[1](cell.clipped(inputs[2] + r * mixed[2]))
    return (1.0 - z) * candidate + z * state


def _gru_step(cell: _Cell, parts: Sequence[Term], share: Term, state: Term) -> Term:
    """The reset gate scales the state before it meets the candidate's weights."""
    gates = share.slice(1, 0, 2 * cell.hidden) + state.contract("bh,gh->bg", parts[0])
    z, r = (cell.activations[0](cell.clipped(cell.gate(gates, g, 1))) for g in range(2))
    inner = cell.gate(share, 2, 1) + (r * state).contract("bh,gh->bg", parts[1])
    candidate = cell.activations[1](cell.clipped(inner))
    return (1.0 - z) * candidate + z * state
