"""Which kernel runs each operation: a selection problem, its solver, its file format."""
