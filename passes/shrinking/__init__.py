"""Smaller dimensions, by what calibration saw of them: products that are truly smaller."""
