"""Writes the artifact: one ZIP with the manifest, code, weights, plan and checksums."""
