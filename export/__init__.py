"""PyTorch modules to ONNX files that keep their iterations apart."""

if __name__ != "unfoldc.export":
    raise ImportError("import this package as unfoldc.export; the folder is not a package of its own")

from unfoldc.export.markers import iterate
from unfoldc.export.public import export_onnx
from unfoldc.export.report import ExportReport

__all__ = ["ExportReport", "export_onnx", "iterate"]
