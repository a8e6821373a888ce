"""Fused regions: elementwise chains, row reductions, reductions and data movement as one kernel.

`spec.RegionSpec` says what to compute, `kernel.emit_region` emits it.
"""
