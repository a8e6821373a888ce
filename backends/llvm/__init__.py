"""LLVM code generation with llvmlite, the thread pool, and the ELF writer."""
