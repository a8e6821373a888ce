"""The ELF writer: what it links runs, and what it must refuse is refused by name."""

import ctypes
import os
import re
import shutil
import subprocess

import pytest
from llvmlite import binding

from tilewright.backends.llvm.elf import LinkError, link

X86 = "x86_64-unknown-linux-gnu"
ARM = "aarch64-unknown-linux-gnu"
HOST_IS_X86 = os.uname().machine == "x86_64"
runs_here = pytest.mark.skipif(not HOST_IS_X86, reason="executes x86-64 code")


def compile_ir(text, triple=X86, reloc="pic", codemodel="small"):
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine(
        reloc=reloc, codemodel=codemodel, opt=2
    )
    module = binding.parse_assembly(f'target triple = "{triple}"\n{text}')
    module.verify()
    return machine.emit_object(module)


def load(image):
    descriptor = os.memfd_create("test")
    os.write(descriptor, image)
    library = ctypes.CDLL(f"/proc/self/fd/{descriptor}")
    library.descriptor = descriptor  # never closed: dlopen finds loaded objects by this path
    return library


CALLER = """
declare i64 @other(i64)
declare ptr @memcpy(ptr, ptr, i64)
@table = external constant [4 x i64]
@counter = global i64 5
@zeroed = internal global [1000 x i64] zeroinitializer
@pointer = internal global ptr @counter
@function = internal constant ptr @other
define i64 @tw_sum(i64 %x) {
  %a = call i64 @other(i64 %x)
  %slot = getelementptr [4 x i64], ptr @table, i64 0, i64 %x
  %b = load i64, ptr %slot
  %p = load volatile ptr, ptr @pointer
  %c = load i64, ptr %p
  %z = getelementptr [1000 x i64], ptr @zeroed, i64 0, i64 999
  %d = load volatile i64, ptr %z
  %f = load volatile ptr, ptr @function
  %e = call i64 %f(i64 1)
  %s1 = add i64 %a, %b
  %s2 = add i64 %s1, %c
  %s3 = add i64 %s2, %d
  %s4 = add i64 %s3, %e
  ret i64 %s4
}
define void @tw_copy(ptr %to, ptr %from, i64 %n) {
  call ptr @memcpy(ptr %to, ptr %from, i64 %n)
  ret void
}
define i64 @tw_copy_address() { ret i64 ptrtoint (ptr @memcpy to i64) }
define i64 @tw_pick(i64 %x) {
  switch i64 %x, label %z [i64 0, label %a
    i64 1, label %b
    i64 2, label %c
    i64 3, label %d
    i64 4, label %e]
a:
  tail call void @hidden_store(i64 7)
  ret i64 3
b:
  ret i64 17
c:
  tail call void @hidden_store(i64 9)
  ret i64 111
d:
  ret i64 5
e:
  ret i64 -9
z:
  ret i64 0
}
define void @hidden_store(i64 %v) noinline { store volatile i64 %v, ptr @counter ret void }
"""
CALLEE = """
@table = constant [4 x i64] [i64 10, i64 20, i64 30, i64 40]
define i64 @other(i64 %x) { %y = mul i64 %x, 100 ret i64 %y }
"""
EXPORTS = ["tw_sum", "tw_copy", "tw_pick", "tw_copy_address"]


@runs_here
def test_two_objects_with_data_tables_and_imports_run():
    library = load(link([compile_ir(CALLER), compile_ir(CALLEE)], EXPORTS, "model.so"))
    library.tw_sum.restype = ctypes.c_int64
    assert library.tw_sum(ctypes.c_int64(2)) == 200 + 30 + 5 + 0 + 100
    source, target = (ctypes.c_char * 6)(*b"abcdef"), (ctypes.c_char * 6)()
    library.tw_copy(target, source, ctypes.c_int64(6))
    assert target.raw == b"abcdef"
    assert [library.tw_pick(ctypes.c_int64(x)) for x in range(6)] == [3, 17, 111, 5, -9, 0]
    assert library.tw_sum(ctypes.c_int64(2)) == 200 + 30 + 9 + 0 + 100
    library.tw_copy_address.restype = ctypes.c_void_p
    copy = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
        library.tw_copy_address()
    )
    copy(target, (ctypes.c_char * 6)(*b"ghijkl"), 6)
    assert target.raw == b"ghijkl"


@runs_here
def test_only_the_exports_are_visible():
    library = load(link([compile_ir(CALLER), compile_ir(CALLEE)], EXPORTS, "model.so"))
    assert not hasattr(library, "other")
    assert not hasattr(library, "counter")
    assert hasattr(library, "tw_pick")


def test_the_same_objects_give_the_same_bytes():
    objects = [compile_ir(CALLER), compile_ir(CALLEE)]
    assert link(objects, EXPORTS, "m.so") == link(objects, EXPORTS[::-1], "m.so")


def test_constants_and_code_do_not_share_a_segment_and_nothing_is_write_and_execute(tmp_path):
    if not shutil.which("readelf"):
        pytest.skip("readelf is not installed")
    path = tmp_path / "m.so"
    path.write_bytes(link([compile_ir(CALLER), compile_ir(CALLEE)], EXPORTS, "m.so"))
    read = subprocess.run(
        ["readelf", "-lWS", "-d", "--dyn-syms", "-s", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert read.stderr == ""
    loads = re.findall(r"LOAD +\S+ \S+ \S+ \S+ \S+ (R.E|RW|R) ", read.stdout)
    assert loads == ["R", "R E", "RW"]
    assert re.search(r"GNU_STACK .* RW ", read.stdout)
    assert "GNU_RELRO" in read.stdout
    assert "TEXTREL" not in read.stdout
    assert "libc.so.6" in read.stdout
    symtab = read.stdout.split("'.symtab'")[1]
    assert re.search(r"FUNC +LOCAL +DEFAULT +\d+ other", symtab)


def test_objdump_disassembles_the_whole_file_by_name(tmp_path):
    if not shutil.which("objdump"):
        pytest.skip("objdump is not installed")
    path = tmp_path / "m.so"
    path.write_bytes(link([compile_ir(CALLER), compile_ir(CALLEE)], EXPORTS, "m.so"))
    text = subprocess.run(["objdump", "-d", str(path)], capture_output=True, text=True, check=True)
    assert "<hidden_store>:" in text.stdout
    assert "(bad)" not in text.stdout


def test_an_undefined_symbol_is_named():
    with pytest.raises(LinkError) as error:
        link([compile_ir(CALLER)], EXPORTS, "m.so")
    assert str(error.value) in (
        "object 0, section .text: undefined symbol 'other'",
        "object 0, section .text: undefined symbol 'table'",
    )


def test_a_math_call_that_was_not_lowered_is_named():
    text = "declare float @expf(float)\ndefine float @tw_f(float %x) {\n"
    text += "%y = call float @expf(float %x) ret float %y }"
    with pytest.raises(LinkError) as error:
        link([compile_ir(text)], ["tw_f"], "m.so")
    assert str(error.value) == "object 0, section .text: undefined symbol 'expf'"


def test_a_symbol_defined_twice_is_named():
    one = compile_ir("define i64 @tw_a() { ret i64 1 }")
    with pytest.raises(LinkError) as error:
        link([one, one], ["tw_a"], "m.so")
    assert str(error.value) == "object 1: symbol 'tw_a' is already defined in object 0"


@runs_here
def test_a_strong_definition_wins_over_a_weak_one():
    weak = compile_ir("define weak i64 @tw_a() { ret i64 1 }")
    strong = compile_ir("define i64 @tw_a() { ret i64 2 }")
    for objects in ([weak, strong], [strong, weak]):
        assert load(link(objects, ["tw_a"], "m.so")).tw_a() == 2


def test_a_missing_export_is_named():
    with pytest.raises(LinkError) as error:
        link([compile_ir(CALLEE)], ["tw_run"], "m.so")
    assert str(error.value) == "exported symbol 'tw_run' is not defined in any object"


def test_the_default_code_model_of_llvmlite_is_refused():
    text = "@g = external global i64\ndefine i64 @tw_a() { %v = load i64, ptr @g ret i64 %v }"
    with pytest.raises(LinkError) as error:
        link([compile_ir(text, codemodel="large")], ["tw_a"], "m.so")
    assert re.fullmatch(
        r"object 0, section \S+: relocation type \d+ of x86-64 against '\S+' is not "
        r"supported; emit with reloc='pic', codemodel='small'",
        str(error.value),
    )


def test_thread_local_storage_is_refused():
    text = "@g = thread_local global i64 3\ndefine ptr @tw_a() { ret ptr @g }"
    with pytest.raises(LinkError) as error:
        link([compile_ir(text)], ["tw_a"], "m.so")
    assert str(error.value) == "object 0: section .tdata is thread-local storage"


def test_constructors_are_refused():
    text = "@llvm.global_ctors = appending global [1 x {i32, ptr, ptr}] "
    text += "[{i32, ptr, ptr} {i32 1, ptr @f, ptr null}]\ndefine void @f() { ret void }"
    with pytest.raises(LinkError) as error:
        link([compile_ir(text)], ["f"], "m.so")
    assert str(error.value) == "object 0: section .ctors.65534 holds constructors; not supported"


def test_objects_of_two_machines_are_refused():
    text = "define void @tw_a() { ret void }"
    with pytest.raises(LinkError) as error:
        link([compile_ir(text), compile_ir(text, ARM)], ["tw_a"], "m.so")
    assert str(error.value) == "object 1: is for aarch64, but object 0 is for x86-64"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "object 0: not an ELF object (starts with b'')"),
        (b"MZ" + bytes(100), "object 0: not an ELF object (starts with b'MZ\\x00\\x00')"),
    ],
)
def test_bytes_that_are_no_object_are_refused(data, message):
    with pytest.raises(LinkError) as error:
        link([data], [], "m.so")
    assert str(error.value) == message


def test_a_shared_object_is_not_an_input():
    shared = link([compile_ir(CALLEE)], ["other"], "m.so")
    with pytest.raises(LinkError) as error:
        link([shared], ["other"], "m.so")
    assert str(error.value) == (
        "object 0: expected a 64-bit little-endian relocatable object (ET_REL), "
        "found class 2, data 1, type 3"
    )


def test_a_truncated_object_is_refused():
    data = compile_ir(CALLEE)
    for cut in range(64, len(data) - 1, 97):
        with pytest.raises(LinkError, match="object 0: damaged ELF object"):
            link([data[:cut]], ["other"], "m.so")


def test_aarch64_addresses_decode_to_their_symbols():
    """Executes adrp+add/ldr and bl by hand: the page and offset fields must give the address."""
    image = link([compile_ir(CALLER, ARM), compile_ir(CALLEE, ARM)], EXPORTS, "m.so")
    symbols = _symbols(image)
    start, size = symbols["tw_sum"]
    words = [int.from_bytes(image[i : i + 4], "little") for i in range(start, start + size, 4)]
    calls = {
        start + 4 * i + _signed(word & 0x3FFFFFF, 26) * 4
        for i, word in enumerate(words)
        if word >> 26 == 0b100101
    }
    assert symbols["other"][0] in calls
    pages = {
        ((start + 4 * i) & ~0xFFF)
        + (_signed((word >> 5 & 0x7FFFF) << 2 | word >> 29 & 3, 21) << 12)
        for i, word in enumerate(words)
        if word & 0x9F000000 == 0x90000000
    }
    got = {symbols[name][0] & ~0xFFF for name in ("pointer", "zeroed", "function")}
    assert got <= pages
    assert image[18] == 183


def _signed(value, bits):
    return value - (1 << bits) if value >> (bits - 1) else value


def _symbols(image):
    """name -> (address, size) from .symtab, read with the writer's own independent header walk."""
    headers_at = int.from_bytes(image[40:48], "little")
    count = int.from_bytes(image[60:62], "little")
    sections = []
    for i in range(count):
        header = image[headers_at + 64 * i : headers_at + 64 * (i + 1)]
        kind = int.from_bytes(header[4:8], "little")
        offset, size = (int.from_bytes(header[k : k + 8], "little") for k in (24, 32))
        sections.append((kind, image[offset : offset + size], header[40]))
    table, strings = next((s[1], sections[s[2]][1]) for s in sections if s[0] == 2)
    found = {}
    for i in range(0, len(table), 24):
        name = int.from_bytes(table[i : i + 4], "little")
        value, size = (int.from_bytes(table[i + k : i + k + 8], "little") for k in (8, 16))
        found[strings[name : strings.index(b"\0", name)].decode()] = (value, size)
    return found
