"""Emits the model's own entry points: dimensions, arena size, output shapes and the run itself."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llvmlite import ir

from tilewright.backends.llvm.builder import I8, I32, I64, KERNEL_TYPE, PTR, VOID, Code
from tilewright.backends.llvm.expressions import Dims
from tilewright.backends.llvm.limits import upper
from tilewright.backends.llvm.pool import PoolFunctions
from tilewright.backends.llvm.pool_chain import JOB_ALIGN, JOB_BYTES, ChainFunctions
from tilewright.backends.llvm.program import (
    Branch,
    Copy,
    Launch,
    Place,
    Program,
    Repeat,
    Step,
    blocks,
    chained,
)
from tilewright.backends.llvm.program import launches as all_launches
from tilewright.backends.llvm.session import (
    MODEL_ARENA_TYPE,
    MODEL_BODY_TYPE,
    MODEL_DIMS_TYPE,
    MODEL_ERROR_BASE,
    MODEL_SHAPES_TYPE,
    begin_launch,
    end_launch,
)
from tilewright.backends.target import Target
from tilewright.compiler.ir.core import Graph
from tilewright.compiler.ir.dims import Dim, sym


@dataclass(frozen=True)
class Layout:
    """Where everything is: offsets (bytes) of arena buffers and weights, and sizes."""

    buffers: tuple[Dim, ...]
    arena: Dim
    scratch: Dim
    weights: tuple[int, ...]


@dataclass(frozen=True)
class ModelErrors:
    """Texts of the model's own errors; status = `MODEL_ERROR_BASE` + position."""

    texts: tuple[str, ...]

    def status(self, text: str) -> int:
        return MODEL_ERROR_BASE + self.texts.index(text)

    @property
    def table(self) -> dict[int, str]:
        """Status -> text."""
        return {MODEL_ERROR_BASE + i: text for i, text in enumerate(self.texts)}


def collect_errors(graph: Graph, program: Program) -> ModelErrors:
    """Every text that this model's entry points can end with, once each."""
    texts = [c.message for c in graph.constraints]
    texts += [launch.error for launch in all_launches(program.steps)]
    return ModelErrors(tuple(dict.fromkeys(texts)))


def slots(graph: Graph, program: Program) -> dict[str, int]:
    """The position of every symbol (and loop counter) in the dimensions array."""
    return {name: i for i, name in enumerate([*graph.symbols, *program.counters])}


def _runs(steps: Sequence[Step]) -> Iterator[list[Launch]]:
    """The launches of all blocks, those that are joined together."""
    for run in chained(steps):
        yield [step for step in run if isinstance(step, Launch)]
        for block in blocks(run[0]):
            yield from _runs(block)


def _operands(launch: Launch) -> int:
    return len(launch.operands) + len(launch.counts)


class BodyEmitter:
    """Adds `model_dims`, `model_arena`, `model_shapes` and `model_body` to a module."""

    def __init__(
        self,
        module: ir.Module,
        target: Target,
        graph: Graph,
        program: Program,
        layout: Layout,
        kernels: Mapping[object, str],
        pool: PoolFunctions,
        chain: ChainFunctions,
    ) -> None:
        self.module, self.target, self.graph, self.program = module, target, graph, program
        self.layout, self.kernels, self.pool, self.chain = layout, kernels, pool, chain
        self.errors = collect_errors(graph, program)
        self.slots = slots(graph, program)
        self.mutable = {n for n, s in graph.symbols.items() if s.source[0] == "data"}
        self.mutable |= set(program.counters)

    def _function(self, name: str, kind: ir.FunctionType) -> tuple[Code, ir.Function]:
        fn = ir.Function(self.module, kind, name)
        fn.linkage = "internal"
        builder = ir.IRBuilder(fn.append_basic_block("entry"))
        return Code(builder, self.target), fn

    def emit(self) -> None:
        """Emit all four functions."""
        self._emit_dims()
        self._emit_arena()
        self._emit_shapes()
        self._emit_body()

    # Sizes ---------------------------------------------------------------------------------

    def _emit_dims(self) -> None:
        code, fn = self._function("model_dims", MODEL_DIMS_TYPE)
        array, tensors = fn.args
        dims = Dims(code, array, self.slots, set(self.slots))
        known: set[str] = set()
        for index, value in enumerate(self.graph.inputs):
            shape = self._tensor_field(code, tensors, index, 1)
            for axis, dim in enumerate(value.shape):
                found = code.load(code.at(shape, axis, I64), I64)
                self._bind(code, dims, known, ("shape", index, axis), dim, found)
        for name, symbol in self.graph.symbols.items():
            if symbol.source[0] == "value":
                _, index, element = symbol.source
                found = self._input_element(code, tensors, index, element)
                dims.store(name, found)
                self._check_bounds(code, found, symbol.low, symbol.high)
        for index, value in enumerate(self.graph.inputs):
            shape = self._tensor_field(code, tensors, index, 1)
            for axis, dim in enumerate(value.shape):
                found = code.load(code.at(shape, axis, I64), I64)
                self._fail_unless(code, code.cmp("==", found, dims.emit(dim)), 1)
        for name, symbol in self.graph.symbols.items():
            if symbol.source[0] == "data":
                dims.store(name, dims.emit(upper(sym(name), self.graph.symbols)))
        for constraint in self.graph.constraints:
            same = code.cmp("==", dims.emit(constraint.left), dims.emit(constraint.right))
            self._fail_unless(code, same, self.errors.status(constraint.message))
        code.b.ret(ir.Constant(I32, 0))

    def _bind(
        self,
        code: Code,
        dims: Dims,
        known: set[str],
        source: tuple[str, int, int],
        dim: Dim,
        found: ir.Value,
    ) -> None:
        for name, symbol in self.graph.symbols.items():
            if symbol.source == source and name not in known:
                known.add(name)
                dims.store(name, found)
                self._check_bounds(code, found, symbol.low, symbol.high)

    def _check_bounds(self, code: Code, found: ir.Value, low: int, high: int | None) -> None:
        self._fail_unless(code, code.cmp(">=", found, low), 1)
        if high is not None:
            self._fail_unless(code, code.cmp("<=", found, high), 1)

    def _fail_unless(self, code: Code, condition: ir.Value, status: int) -> None:
        with code.when(code.b.not_(condition)):
            code.b.ret(ir.Constant(I32, status))

    def _tensor_field(self, code: Code, tensors: ir.Value, index: int, field: int) -> ir.Value:
        return code.load(code.at(tensors, index * 2 + field, PTR), PTR)

    def _input_element(self, code: Code, tensors: ir.Value, index: int, element: int) -> ir.Value:
        data = self._tensor_field(code, tensors, index, 0)
        dtype = self.graph.inputs[index].dtype
        integer = ir.IntType(dtype.bits)
        value = code.load(code.at(data, element, integer), integer)
        if dtype.bits == 64:
            return value
        signed = dtype.kind == "int"
        return code.b.sext(value, I64) if signed else code.b.zext(value, I64)

    def _emit_arena(self) -> None:
        code, fn = self._function("model_arena", MODEL_ARENA_TYPE)
        array, threads = fn.args
        dims = Dims(code, array, self.slots, self.mutable)
        per_thread = code.round_up(dims.emit(self.layout.scratch), 64)
        total = code.add(dims.emit(self.layout.arena), code.mul(per_thread, threads))
        code.b.ret(ir.Constant(I64, total) if isinstance(total, int) else total)

    def _store_shapes(
        self, code: Code, dims: Dims, tensors: ir.Value, sizes: Callable[[Dim], Dim]
    ) -> None:
        for index, value in enumerate(self.graph.outputs):
            shape = self._tensor_field(code, tensors, index, 1)
            for axis, dim in enumerate(value.shape):
                code.store(dims.value(sizes(dim)), code.at(shape, axis, I64))

    def _emit_shapes(self) -> None:
        code, fn = self._function("model_shapes", MODEL_SHAPES_TYPE)
        array, tensors = fn.args
        dims = Dims(code, array, self.slots, self.mutable)
        self._store_shapes(code, dims, tensors, lambda dim: upper(dim, self.graph.symbols))
        code.b.ret_void()

    # The run -------------------------------------------------------------------------------

    def _emit_body(self) -> None:
        code, fn = self._function("model_body", MODEL_BODY_TYPE)
        self.session, array, self.arena, self.weights, self.inputs, self.outputs, *rest = fn.args
        self.pool_ptr, _ = rest
        found = list(_runs(self.program.steps))
        operands = max((sum(map(_operands, run)) for run in found), default=0) + 1
        parameters = max((sum(len(x.dims) for x in run) for run in found), default=0) + 1
        self.args = code.b.alloca(PTR, size=operands)
        self.params = code.b.alloca(I64, size=parameters)
        longest = max((len(run) for run in found), default=0)
        if longest > 1:
            self.jobs = code.b.alloca(I8, size=longest * JOB_BYTES)
            self.jobs.align = JOB_ALIGN
        dims = Dims(code, array, self.slots, self.mutable)
        self.stride = code.round_up(dims.emit(self.layout.scratch), 64)
        self.scratch = code.at(self.arena, dims.emit(self.layout.arena), I8)
        # offsets may be long expressions, and every buffer is used more than once
        places = {offset: dims.emit(offset) for offset in dict.fromkeys(self.layout.buffers)}
        self.places = [places[offset] for offset in self.layout.buffers]
        self.ident = 0
        self._emit_steps(code, dims, self.program.steps)
        self._store_shapes(code, dims, self.outputs, lambda dim: dim)
        code.b.ret(ir.Constant(I32, 0))

    def _emit_steps(self, code: Code, dims: Dims, steps: Sequence[Step]) -> None:
        for step, *others in chained(steps):
            if isinstance(step, Launch):
                joined = [x for x in others if isinstance(x, Launch)]
                if joined:
                    self._emit_chain(code, dims, [step, *joined])
                else:
                    self._emit_call(code, dims, step)
            elif isinstance(step, Copy):
                self._emit_copy(code, dims, step)
            elif isinstance(step, Branch):
                flag = code.load(self._address(code, dims, step.condition), I8)
                with code.either(code.cmp("!=", code.b.zext(flag, I64), 0)) as (then, otherwise):
                    with then:
                        self._emit_steps(code, dims, step.then)
                    with otherwise:
                        self._emit_steps(code, dims, step.otherwise)
            else:
                self._emit_repeat(code, dims, step)

    def _address(self, code: Code, dims: Dims, place: Place) -> ir.Value:
        offset = dims.emit(place.offset)
        if place.kind == "arena":
            base, start = self.arena, self.places[place.index]
        elif place.kind == "weight":
            base, start = self.weights, self.layout.weights[place.index]
        else:
            tensors = self.inputs if place.kind == "input" else self.outputs
            base, start = self._tensor_field(code, tensors, place.index, 0), 0
        return code.at(base, code.add(start, offset), I8)

    def _store_arguments(
        self, code: Code, dims: Dims, launch: Launch, first: int = 0, parameter: int = 0
    ) -> ir.Function:
        """Fill the arrays of arguments and dimensions from these positions; the kernel."""
        count = first + len(launch.operands)
        for i, place in enumerate(launch.operands, first):
            code.store(self._address(code, dims, place), code.at(self.args, i, PTR))
        for i, name in enumerate(launch.counts):
            code.store(dims.slot(name), code.at(self.args, count + i, PTR))
        for i, dim in enumerate(launch.dims, parameter):
            code.store(dims.value(dim), code.at(self.params, i, I64))
        return code.declare(self.kernels[launch.spec], KERNEL_TYPE)

    def _emit_call(self, code: Code, dims: Dims, launch: Launch) -> None:
        kernel = self._store_arguments(code, dims, launch)
        begun = begin_launch(code.b, self.session)
        status = code.b.call(
            self.pool.parallel,
            [
                self.pool_ptr,
                kernel,
                self.args,
                self.params,
                dims.value(launch.units),
                dims.value(launch.grain),
                dims.value(launch.least),
                self.scratch,
                dims.value_of(self.stride),
            ],
        )
        end_launch(code.b, self.session, self.ident, begun)
        self.ident += 1
        with code.when(code.b.icmp_signed("!=", status, ir.Constant(I32, 0))):
            code.b.ret(ir.Constant(I32, self.errors.status(launch.error)))

    def _emit_chain(self, code: Code, dims: Dims, run: Sequence[Launch]) -> None:
        first = parameter = 0
        for at, launch in enumerate(run):
            kernel = self._store_arguments(code, dims, launch, first, parameter)
            last = at
            while last + 1 < len(run) and run[last + 1].joint == "beside":
                last += 1
            code.b.call(
                self.chain.job,
                [
                    code.at(self.jobs, at * JOB_BYTES, I8),
                    code.at(self.jobs, last * JOB_BYTES, I8),
                    kernel,
                    code.at(self.args, first, PTR),
                    code.at(self.params, parameter, I64),
                    dims.value(launch.units),
                    dims.value(launch.grain),
                    dims.value(launch.least),
                    ir.Constant(I64, self.ident),
                    ir.Constant(I32, self.errors.status(launch.error)),
                ],
            )
            first, parameter = first + _operands(launch), parameter + len(launch.dims)
            self.ident += 1
        end = code.at(self.jobs, len(run) * JOB_BYTES, I8)
        scratch, stride = self.scratch, dims.value_of(self.stride)
        status = code.b.call(
            self.chain.run, [self.pool_ptr, self.jobs, end, scratch, stride, self.session]
        )
        with code.when(code.b.icmp_signed("!=", status, ir.Constant(I32, 0))):
            code.b.ret(status)

    def _emit_copy(self, code: Code, dims: Dims, step: Copy) -> None:
        if step.source == step.target:
            return
        i1 = ir.IntType(1)
        kind = ir.FunctionType(VOID, [PTR, PTR, I64, i1])
        move = code.declare("llvm.memmove.p0.p0.i64", kind)
        target = self._address(code, dims, step.target)
        source = self._address(code, dims, step.source)
        code.b.call(move, [target, source, dims.value(step.bytes), ir.Constant(i1, 0)])

    def _emit_repeat(self, code: Code, dims: Dims, step: Repeat) -> None:
        b = code.b
        dims.store(step.counter, ir.Constant(I64, 0))
        head, body, after = (b.append_basic_block(n) for n in ("head", "repeat", "done"))
        b.branch(head)
        b.position_at_end(head)
        go: ir.Value = ir.Constant(ir.IntType(1), 1)
        if step.trips is not None:
            go = code.cmp("<", dims.load(step.counter), dims.emit(step.trips))
        if step.condition is not None:
            flag = code.load(self._address(code, dims, step.condition), I8)
            go = b.and_(go, code.cmp("!=", b.zext(flag, I64), 0))
        b.cbranch(go, body, after)
        b.position_at_end(body)
        self._emit_steps(code, dims, step.body)
        dims.store(step.counter, b.add(dims.load(step.counter), ir.Constant(I64, 1)))
        b.branch(head)
        b.position_at_end(after)
        if step.length is not None:
            dims.store(step.length, dims.load(step.counter))
