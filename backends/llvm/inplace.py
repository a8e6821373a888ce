"""Sharing one buffer between a kernel's operand that dies and its result that is born."""

from collections.abc import Sequence

from tilewright.backends.llvm.program import Branch, Launch, Program, Repeat, Step, lifetimes


def share(program: Program) -> list[int]:
    """For every arena buffer the buffer whose memory it uses (itself, or an earlier one).

    A result takes the memory of an operand when the kernel allows it (`Launch.inplace`), both are
    whole arena buffers of equal size at offset 0, the operand is not used later and the result not
    earlier, and the operand appears once in the launch.
    """
    spans = lifetimes(program)
    owner = list(range(len(program.buffers)))
    ends = {i: span[1] for i, span in enumerate(spans)}
    clock = 0

    def visit(steps: Sequence[Step]) -> None:
        nonlocal clock
        for step in steps:
            at = clock
            clock += 1
            if isinstance(step, Launch):
                _try(step, at)
            elif isinstance(step, Branch):
                visit(step.then)
                visit(step.otherwise)
                clock += 1
            elif isinstance(step, Repeat):
                visit(step.body)
                clock += 1

    def _try(launch: Launch, at: int) -> None:
        for result, operand in launch.inplace:
            new, old = launch.operands[result], launch.operands[operand]
            if new.kind != "arena" or old.kind != "arena" or new.offset != 0 or old.offset != 0:
                continue
            if owner[new.index] != new.index or spans[new.index][0] != at:
                continue
            if program.buffers[new.index].bytes != program.buffers[old.index].bytes:
                continue
            root = owner[old.index]
            times = sum(p.kind == "arena" and p.index == old.index for p in launch.operands)
            if ends[root] == at + 1 and times == 1:
                owner[new.index] = root
                ends[root] = spans[new.index][1]

    visit(program.steps)
    return owner
