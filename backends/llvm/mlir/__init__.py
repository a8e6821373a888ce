"""Lowering MLIR text to LLVM IR text that our LLVM can read."""
