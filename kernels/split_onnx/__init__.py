"""Splits an ONNX model into `begin`, `iterate` and `end`, three ONNX models; knows no operator and needs none."""
