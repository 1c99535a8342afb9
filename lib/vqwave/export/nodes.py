"""Nodes of an ONNX graph under construction, and matrices in int8."""

import numpy as np

FLOAT, INT32, INT64, BOOL = 1, 6, 7, 9
"""Types of tensors, as in `onnx.TensorProto`."""


class Nodes:
    """Nodes and constants of one graph. An array, an integer or a list of integers among the inputs
    of a node becomes a constant; the same array becomes the same constant each time.
    """

    def __init__(self, prefix: str):
        self.prefix, self.nodes, self.constants = prefix, [], []
        self._constant_names: dict[int, tuple[np.ndarray, str]] = {}

    def __call__(self, kind: str, *inputs, **attributes) -> str:
        """Add a node with one output; returns the name of the output."""
        name = f"{self.prefix}{len(self.nodes)}"
        self.node(kind, *inputs, outputs=[name], **attributes)
        return name

    def names(self, *parts: str) -> list[str]:
        """Names for the outputs of the next node."""
        return [f"{self.prefix}{part}{len(self.nodes)}" for part in parts]

    def split(self, x: str, *widths: int, axis: int = -1) -> list[str]:
        """Split an axis into parts of these widths."""
        outputs = [f"{self.prefix}{len(self.nodes)}_{i}" for i in range(len(widths))]
        self.node("Split", x, widths, outputs=outputs, axis=axis)
        return outputs

    def node(self, kind: str, *inputs, outputs: list[str], domain: str = "", **attributes):
        """Add a node whose outputs have these names."""
        from onnx import helper

        names = [x if isinstance(x, str) else self._constant(np.asarray(x)) for x in inputs]
        name = f"{self.prefix}{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, outputs, name, domain=domain, **attributes))

    def _constant(self, array: np.ndarray) -> str:
        from onnx import numpy_helper

        if id(array) not in self._constant_names:
            name = f"{self.prefix}constant_{len(self.constants)}"
            contiguous = np.ascontiguousarray(array).reshape(array.shape)
            self.constants.append(numpy_helper.from_array(contiguous, name))
            self._constant_names[id(array)] = array, name
        return self._constant_names[id(array)][1]


def tensors(described: dict[str, tuple[int, list]]) -> list:
    """{name: (type, shape)} as ONNX describes inputs and outputs."""
    from onnx import helper

    return [helper.make_tensor_value_info(name, *x) for name, x in described.items()]


def int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [in, out] -> symmetric int8 [in, out] within ±63, its scale float32 []."""
    # Processors without VNNI add two products with activations of 0 … 255 in 16 bits, with
    # saturation. Weights of seven bits keep the sums exact: 2 · 255 · 63 < 2¹⁵.
    scale = np.float32(max(np.abs(array).max(), 1e-12) / 63)
    return np.round(array / scale).astype(np.int8), np.array(scale)
