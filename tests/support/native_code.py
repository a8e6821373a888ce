"""Compiles llvmlite modules for tests: module -> object -> shared object -> ctypes library."""

import ctypes
import os

from llvmlite import binding, ir

from tilewright.backends.llvm.elf import link

TRIPLE = "x86_64-unknown-linux-gnu"


def new_module(triple=TRIPLE):
    module = ir.Module("test")
    module.triple = triple
    return module


def emit_object(module):
    return emit_text(str(module), module.triple)


def emit_text(text, triple=TRIPLE):
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    binding.initialize_native_asmparser()
    machine = binding.Target.from_triple(triple).create_target_machine(
        reloc="pic", codemodel="small", opt=2
    )
    parsed = binding.parse_assembly(text)
    parsed.verify()
    options = binding.create_pipeline_tuning_options(speed_level=2)
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    return machine.emit_object(parsed)


def load_shared_object(image):
    descriptor = os.memfd_create("test")
    os.write(descriptor, image)
    # The descriptor stays open: dlopen finds loaded objects by this path.
    return ctypes.CDLL(f"/proc/self/fd/{descriptor}")


def load_module(module, exports):
    return load_shared_object(link([emit_object(module)], exports, "test.so"))
