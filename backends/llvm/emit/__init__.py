"""Abstract code builder: one description of a loop nest, two implementations (LLVM IR, MLIR)."""
