"""Placing buffers in one arena: problem, greedy and exact packing, slots for unknown sizes."""
