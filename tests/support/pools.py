"""What tests of the thread pool share: kernels over units, pools under exported names, rounds."""

import ctypes
from collections.abc import Callable

from llvmlite import ir
from support.native_code import load_module

I32, I64, PTR, VOID = ir.IntType(32), ir.IntType(64), ir.PointerType(), ir.VoidType()


def at(b: ir.IRBuilder, base: ir.Value, index: ir.Value | int, typ: ir.Type = I64) -> ir.Value:
    """The address of element `index` of an array."""
    place = ir.Constant(I64, index) if isinstance(index, int) else index
    return b.gep(base, [place], source_etype=typ)


def every_unit(
    kernel: ir.Function, b: ir.IRBuilder, status_of: Callable[[ir.Value], ir.Value]
) -> None:
    """The rest of `kernel`: `status_of(unit)` for its units, at least one; the largest status."""
    _args, _dims, begin, end, _scratch = kernel.args
    body, after = kernel.append_basic_block(), kernel.append_basic_block()
    start = b.block
    b.branch(body)
    b.position_at_end(body)
    unit, status = b.phi(I64), b.phi(I32)
    mine = status_of(unit)
    worst = b.select(b.icmp_signed(">", mine, status), mine, status)
    following = b.add(unit, ir.Constant(I64, 1))
    for phi, first, then in ((unit, begin, following), (status, ir.Constant(I32, 0), worst)):
        phi.add_incoming(first, start)
        phi.add_incoming(then, b.block)
    b.cbranch(b.icmp_signed("<", following, end), body, after)
    b.position_at_end(after)
    b.ret(worst)


def every_round(
    function: ir.Function,
    rounds: ir.Value,
    status: Callable[[ir.IRBuilder], ir.Value],
    kept: Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value],
) -> None:
    """The body of `function`: `status` `rounds` times; what `kept(old, new)` leaves of them."""
    entry, body, done = (function.append_basic_block() for _ in range(3))
    b = ir.IRBuilder(entry)
    b.branch(body)
    b.position_at_end(body)
    i, old = b.phi(I64), b.phi(I32)
    new = kept(b, old, status(b))
    following = b.add(i, ir.Constant(I64, 1))
    for phi, then in ((i, following), (old, new)):
        phi.add_incoming(ir.Constant(phi.type, 0), entry)
        phi.add_incoming(then, body)
    b.cbranch(b.icmp_signed("<", following, rounds), body, done)
    b.position_at_end(done)
    b.ret(new)


def export_pool(module: ir.Module, pool) -> None:
    """`tw_create_pool` and `tw_destroy_pool`."""
    create = ir.Function(module, ir.FunctionType(PTR, [I64]), "tw_create_pool")
    b = ir.IRBuilder(create.append_basic_block())
    b.ret(b.call(pool.create, create.args))
    destroy = ir.Function(module, ir.FunctionType(VOID, [PTR]), "tw_destroy_pool")
    b = ir.IRBuilder(destroy.append_basic_block())
    b.call(pool.destroy, destroy.args)
    b.ret_void()


def load_pools(module: ir.Module, *others: str) -> ctypes.CDLL:
    """The loaded module with its pool's functions and `others`."""
    loaded = load_module(module, ["tw_create_pool", "tw_destroy_pool", *others])
    loaded.tw_create_pool.restype = ctypes.c_void_p
    loaded.tw_create_pool.argtypes = [ctypes.c_int64]
    loaded.tw_destroy_pool.argtypes = [ctypes.c_void_p]
    return loaded


class OpenPool:
    """A pool of `threads` while the context lasts."""

    def __init__(self, library: ctypes.CDLL, threads: int) -> None:
        self.library, self.threads = library, threads
        self.handle = library.tw_create_pool(threads)
        assert self.handle

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.library.tw_destroy_pool(self.handle)
