"""ONNX operator importers, one module per group; `registry` finds them by walking this folder."""
