"""ONNX file -> Program: the one place that knows the file format."""
