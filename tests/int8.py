"""int8 products as exact as the format allows, on every processor."""

import contextlib
from unittest import mock

import onnx
import onnxruntime


@contextlib.contextmanager
def exact_int8():
    """Sessions made inside add int8 products without saturation, as processors with VNNI do."""
    session = onnxruntime.InferenceSession

    def exact_session(graph, options=None, **kwargs):
        options = options or onnxruntime.SessionOptions()
        options.add_session_config_entry("session.x64quantprecision", "1")
        return session(unshare_matrices(graph), options, **kwargs)

    with mock.patch.object(onnxruntime, "InferenceSession", exact_session):
        yield


def unshare_matrices(graph):
    """The graph with a copy of each int8 matrix for each node: this mode replaces each of them once."""
    model = onnx.load_from_string(graph)
    graphs = [model.graph, *(a.g for node in model.graph.node for a in node.attribute
                             if a.type == onnx.AttributeProto.GRAPH)]
    for graph in graphs:
        constants = {constant.name: constant for constant in graph.initializer}
        for number, node in enumerate(graph.node):
            if node.op_type == "DynamicQuantizeMatMul":
                copy = graph.initializer.add()
                copy.CopyFrom(constants[node.input[1]])
                copy.name = node.input[1] = f"{copy.name}_of_{number}"
    return model.SerializeToString()
