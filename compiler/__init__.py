"""What a program is: the IR, the ONNX importer, weight formats, cost models and the driver."""
