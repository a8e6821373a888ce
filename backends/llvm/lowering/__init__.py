"""Graph to program: every operation becomes kernel launches over strided views of memory."""
