"""ONNX in, IR graph out: `load.load_onnx`."""
