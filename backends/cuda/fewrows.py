"""Products of few rows on tensor cores: the launches of `device/fewrows.cuh`.

One template reads B of 4, 8 and 16 bits. Blocks of rows are 8, 16, 32 or 64 columns of mma; which
function runs is decided by M at run time (`cuda.fewshapes` says how blocks are divided). Rows of A
in f32 are rounded by every block for itself where these are few bytes, else once, by a launch
before. Rows in bf16 are copied as they are. Where Hopper's accelerator can copy, `cuda.fewflow` has
the functions of up to 16 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.backends.cuda import fewflow, fewwide, wgmma
from tilewright.backends.cuda.epilogue import declare, gather
from tilewright.backends.cuda.fewshapes import Shape, aligned, panels, shapes
from tilewright.backends.cuda.kernel import WORKSPACE, CudaKernel, Entry
from tilewright.backends.cuda.operands import Weights
from tilewright.backends.cuda.signature import signature, when
from tilewright.backends.llvm.epilogue import Epilogue
from tilewright.backends.target import Target

THREADS = 256
"""Of a block that rounds rows of A."""

PROBLEM = """#include "fewrows.cuh"

struct Problem {{
  static constexpr int bits = {bits}, parts = {parts}, step = {step}, scaled = {scaled};
  static constexpr int k = {k}, panels = {panels}, steps = {steps};
  static constexpr bool half = {half}, zeros = {zeros};
  static constexpr tw_i64 columns = {n};
  const {a} *a;
  const char *b;
  {c} *c;
  tw_i64 m, ldc;
  Extras extras;
{members}  __device__ __forceinline__ void keep(tw_i64 row, tw_i64 n, float sum) const {{
{keep}  }}
}};
"""

ROWS = """  tw_i64 lda;
  static constexpr tw_i64 first = 0;
  __device__ __forceinline__ void load(tw_i64 m, tw_i64 at, float x[8]) const {
    few_row(a, lda, m, at, k, x);
  }
"""

ELEMENTS = {"f32": "float", "bf16": "tw_u16"}
"""C type of the elements of A and C."""

STORE = """    if (n >= columns) return;
    const float value = epilogue(extras, sum, row, first + n);
    c[row * ldc + n] = {rounded};
"""

SHARED = "  extern __shared__ __align__(16) char shared[];\n"


@dataclass(frozen=True)
class Ending:
    """What becomes of sums instead of C. ``keep``: text of `keep(row, n, sum)`, which all lanes of
    a warp call together, the first one with an n that is a multiple of 32, beyond the last column
    too. ``members``: what `Problem` has for it, set by ``begin``. ``operands``: how many lie
    between the extras and the result."""

    keep: str
    members: str = ""
    begin: str = ""
    operands: int = 0


def problem(
    weights: Weights, members: str, a: str = "f32", c: str = "f32", ending: Ending | None = None
) -> str:
    """Text of `Problem`; ``members``: what it has beside A, B and C: `first` and `load`; ``a``,
    ``c``: formats of A and C."""
    w = weights
    names = ("bits", "parts", "step", "scaled", "k", "panels", "steps", "n")
    fields = {f: getattr(w, f) for f in names}
    fields |= {"half": str(w.half).lower(), "zeros": str(w.zeros).lower()}
    rounded = "tw_to_bf16(value)" if c == "bf16" else "value"
    kept = STORE.format(rounded=rounded) if ending is None else ending.keep
    members += ending.members if ending is not None else ""
    return PROBLEM.format(members=members, a=ELEMENTS[a], c=ELEMENTS[c], keep=kept, **fields)


def launch(
    shape: Shape,
    weights: Weights,
    chosen: str,
    rows: str,
    suffix: str,
    target: Target,
    times: str = "1",
) -> Entry:
    """The entry of a function where the formula ``chosen`` is 1: ``times`` products of ``rows``
    rows."""
    across = -(-weights.panels // shape.across) * shape.split
    return Entry(
        (f"{chosen} * {across}", f"ceildiv({rows}, {shape.rows(weights)})", times),
        (shape.threads, 1, 1),
        shared=str(shape.shared(weights)),
        suffix=suffix,
        cluster=(shape.split, 1, 1),
        overlaps=target.cpu.startswith("sm_90"),
    )


def call(shape: Shape, weights: Weights, rows: Sequence[str] = (), length: int = 0) -> str:
    """The end of a function whose problem is ``p``; ``rows``: where rows of ``length`` 16-bit
    numbers are, and elements from one to the next."""
    sizes = [shape.tiles, shape.across, shape.down, shape.ring, shape.split, shape.room or length]
    name = "few_rows" if shape.room else "few_rounds"
    arguments = ["p", f"(tw_i64)blockIdx.y * {shape.rows(weights)}", *rows, "shared"]
    return f"{SHARED}  {name}<{', '.join(map(str, sizes))}>({', '.join(arguments)});\n}}\n"


def kernel(
    weights: Weights,
    epilogue: Epilogue,
    target: Target,
    name: str,
    a: str = "f32",
    c: str = "f32",
    ending: Ending | None = None,
) -> CudaKernel:
    """Functions for all numbers of rows; args and dims are those of a MatmulTask, with A and C in
    the formats ``a`` and ``c``, or those of an ``ending``."""
    w, overlaps = weights, target.cpu.startswith("sm_90")
    operands, dims = 3 + len(epilogue.extras), 3 + epilogue.stride_count
    operands += ending.operands if ending is not None else 0
    begin = (
        gather(epilogue, 2, 3) + "  Problem p;\n"
        f"  p.a = (const {ELEMENTS[a]} *)a0, p.b = (const char *)a1;\n"
        f"  p.c = ({ELEMENTS[c]} *)a{operands - 1}, p.m = p0, p.lda = p1, p.ldc = p2;\n"
        "  p.extras = extras;\n" + (ending.begin if ending is not None else "")
    )
    # Rows that are rounded before: where they lie, elements of a row; when.
    length, rounded = w.steps * w.step, []
    prepared = ("(const tw_u16 *)workspace", str(length))
    direct = aligned(w.k) if a == "bf16" else "0"
    flows = fewflow.serves(w, target)
    parts = [declare(epilogue), problem(w, ROWS, a, c, ending)]
    if flows:
        parts.insert(0, '#include "fewflow.cuh"\n')
    wide = fewwide.serves(w, target)
    if wide:
        text = wgmma.multiply_registers(fewwide.COLUMNS)
        parts.insert(0, f'#include "hopper.cuh"\n{text}#include "fewwide.cuh"\n')
    entries: list[Entry] = []
    products: list[Entry] = []

    def add(suffix: str, threads: int, blocks: int, rest: str, maps: int = 0) -> None:
        own = name + suffix
        head = signature(own, operands, dims, maps=maps, threads=threads, blocks=blocks)
        parts.append(head + begin + rest)

    def flow(most: int, suffix: str, chosen: str, kind: str, place: int) -> None:
        """A function of the accelerator by rows of a format, in A or the workspace."""
        shape = fewflow.flow(w, target, most, kind, place == 0)
        add(suffix, shape.threads, shape.resident, fewflow.call(shape, w), maps=1)
        stride = "p1" if place == 0 else str(length)
        products.append(fewflow.launch(shape, w, chosen, suffix, place, stride))

    def preparing(blocks: str, suffix: str) -> Entry:
        return Entry((blocks, "1", "1"), (THREADS, 1, 1), suffix=suffix, overlaps=overlaps)

    above, ordered = 0, "0"
    # Wide weights by one row or two in f32, which a block rounds itself.
    few = panels(w, target) if not flows or fewflow.apart(w, a) else None
    if few is not None:
        above = few.rows(w)
        early = str(few.early(w)).lower()
        sizes = f"{few.cols}, {few.warps}, {few.ring}, {few.room}, {early}"
        add("_1", few.threads, few.resident, f"{SHARED}  few_panels<{sizes}>(p, shared);\n}}\n")
        chosen = f"{when('p0')} * {when(f'{above + 1} - p0')}"
        entries.append(
            Entry(
                (f"{chosen} * min({w.panels}, {few.resident} * sms)", "1", "1"),
                (few.threads, 1, 1),
                shared=str(few.shared(w)),
                suffix="_1",
                overlaps=overlaps,
            )
        )
    if flows:
        whole = aligned(w.k, fewflow.SIZES[a]) if fewflow.as_they_are(w, a) else "0"
        for most in fewflow.ROWS:
            if most <= above:
                continue
            chosen = f"{when(f'p0 - {above}')} * {when(f'{most + 1} - p0')}"
            if whole != "0":
                flow(most, f"_{above + 1}", f"{chosen} * {whole}", a, 0)
            if most > 1 or whole == "0":
                # One row that is rounded before goes with eight.
                since = 0 if few is None and above == 1 and whole != "0" else above
                chosen = f"{when(f'p0 - {since}')} * {when(f'{most + 1} - p0')} * (1 - {whole})"
                rounded.append(chosen)
                flow(most, f"_{above + 1}_rounded", chosen, "bf16", WORKSPACE)
            above = most
    made = shapes(w, target, a == "bf16")
    for shape in made:
        most = shape.rows(w)
        last = shape is made[-1]
        if most <= above and not last:
            continue
        suffix, chosen = f"_{above + 1}", when(f"p0 - {above}")
        chosen += "" if last else f" * {when(f'{most + 1} - p0')}"
        if last and wide:
            add("_order", THREADS, 1, fewwide.PREPARE)
            count = f"ceildiv(p0 * {length // 8}, {THREADS})"
            entries.append(preparing(f"{chosen} * {count}", "_order"))
            add(suffix, fewwide.SHAPE.threads, 1, fewwide.CALL)
            products.append(fewwide.launch(w, chosen, suffix))
            ordered, above = chosen, most
            continue
        given: tuple[str, ...] = ()
        if not shape.room:
            given = prepared
            rounded.append(f"{chosen} * (1 - {direct})")
            if direct != "0":
                own, rows = f"{suffix}_as_is", call(shape, w, ("p.a", "p.lda"), w.k)
                add(own, shape.threads, shape.resident, rows)
                products.append(launch(shape, w, f"{chosen} * {direct}", "p0", own, target))
                chosen += f" * (1 - {direct})"
        add(suffix, shape.threads, shape.resident, call(shape, w, given, length))
        products.append(launch(shape, w, chosen, "p0", suffix, target))
        above = most
    workspace = "0"
    if rounded:
        away = f"({' + '.join(rounded)})"
        count = f"ceildiv(p0 * {length // 8}, {THREADS})"
        add("_rows", THREADS, 1, "  few_prepare(p, workspace);\n}\n")
        entries.append(preparing(f"{away} * {count}", "_rows"))
        workspace = f"{away} * p0 * {2 * w.parts * length}"
    if wide:
        workspace += f" + {ordered} * {fewwide.workspace()} * {2 * length}"
    return CudaKernel("".join(parts), (*entries, *products), workspace)
