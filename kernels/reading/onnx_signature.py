"""Checks a node against ONNX's own definition of its operator: number of inputs, element types, attributes."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import defs


def mismatch(node: onnx.NodeProto, opset: int, dtypes: Sequence[str | None]) -> str:
    """Says what is wrong with a node of the standard domain, empty if nothing is.

    `dtypes` holds the NumPy name of each input's element type, None for an input that is left out.
    """
    try:
        schema = defs.get_schema(node.op_type, opset, "")
    except defs.SchemaError:
        return f"operator set {opset} has no {node.op_type}"
    if not schema.min_input <= len(dtypes) <= schema.max_input:
        return f"it has {len(dtypes)} inputs, {node.op_type} takes {schema.min_input} to {schema.max_input}"
    if not node.output or not any(node.output) or len(node.output) > schema.max_output:
        return f"it has {len(node.output)} results, {node.op_type} makes 1 to {schema.max_output}"
    return _wrong_attribute(node, schema) or _wrong_type(schema, dtypes)


def _wrong_attribute(node: onnx.NodeProto, schema: defs.OpSchema) -> str:
    seen = set()
    for attribute in node.attribute:
        if attribute.name in seen or attribute.name not in schema.attributes:
            return f"{node.op_type} has no {'second ' if attribute.name in seen else ''}attribute {attribute.name!r}"
        seen.add(attribute.name)
        if attribute.ref_attr_name or _KINDS.get(schema.attributes[attribute.name].type) != attribute.type:
            return f"attribute {attribute.name!r} of {node.op_type} is of another kind"
    absent = sorted(name for name, a in schema.attributes.items() if a.required and name not in seen)
    return f"attribute {absent[0]!r} is missing" if absent else ""


def _wrong_type(schema: defs.OpSchema, dtypes: Sequence[str | None]) -> str:
    allowed = {t.type_param_str: t.allowed_type_strs for t in schema.type_constraints}
    bound: dict[str, str] = {}
    for position, dtype in enumerate(dtypes):
        formal = schema.inputs[min(position, len(schema.inputs) - 1)]
        if dtype is None:
            if formal.option == defs.OpSchema.FormalParameterOption.Single:
                return f"input {position} ({formal.name}) is missing"
            continue
        name = f"tensor({_ONNX_NAMES.get(dtype, dtype)})"
        if name not in allowed.get(formal.type_str, [formal.type_str]):
            return f"input {position} ({formal.name}) is {dtype}, which {schema.name} does not take"
        if formal.type_str in allowed and formal.is_homogeneous and bound.setdefault(formal.type_str, dtype) != dtype:
            return f"input {position} ({formal.name}) is {dtype}, the inputs before it are {bound[formal.type_str]}"
    return ""


_KINDS = {
    defs.OpSchema.AttrType.FLOAT: onnx.AttributeProto.FLOAT,
    defs.OpSchema.AttrType.FLOATS: onnx.AttributeProto.FLOATS,
    defs.OpSchema.AttrType.INT: onnx.AttributeProto.INT,
    defs.OpSchema.AttrType.INTS: onnx.AttributeProto.INTS,
    defs.OpSchema.AttrType.STRING: onnx.AttributeProto.STRING,
    defs.OpSchema.AttrType.STRINGS: onnx.AttributeProto.STRINGS,
    defs.OpSchema.AttrType.GRAPH: onnx.AttributeProto.GRAPH,
    defs.OpSchema.AttrType.TENSOR: onnx.AttributeProto.TENSOR,
}
_ONNX_NAMES = {"float32": "float", "float64": "double"}
