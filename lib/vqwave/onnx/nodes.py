"""Nodes of an ONNX graph in the making, and products whose weights are held in int8 or 4 bits."""

from __future__ import annotations

import numpy as np

# Weights that share a scale in 4 bits: the most that the kernels take, and the fastest; bits per
# code are as with 64.
INT4_BLOCK = 256


class Nodes:
    """Nodes and constants of one graph in the making; arrays among the inputs become constants, one
    each however often an array is given.
    """

    def __init__(self, prefix: str):
        self.prefix, self.nodes, self.constants = prefix, [], []
        self._named: dict[int, tuple[np.ndarray, str]] = {}

    def __call__(self, kind: str, *inputs, **attributes) -> str:
        """Add a node of one output; its name."""
        name = f"{self.prefix}{len(self.nodes)}"
        self.node(kind, *inputs, outputs=[name], **attributes)
        return name

    def split(self, x: str, *widths: int) -> list[str]:
        """Parts of the last axis."""
        outputs = [f"{self.prefix}{len(self.nodes)}_{i}" for i in range(len(widths))]
        self.node("Split", x, np.array(widths), outputs=outputs, axis=-1)
        return outputs

    def node(self, kind: str, *inputs, outputs: list[str], domain: str = "", **attributes):
        from onnx import helper, numpy_helper

        names = []
        for given in inputs:
            if not isinstance(given, str) and id(given) not in self._named:
                name = f"{self.prefix}constant_{len(self.constants)}"
                array = np.ascontiguousarray(given).reshape(given.shape)
                self.constants.append(numpy_helper.from_array(array, name))
                self._named[id(given)] = given, name
            names.append(given if isinstance(given, str) else self._named[id(given)][1])
        name = f"{self.prefix}{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, names, outputs, name, domain=domain, **attributes))


def int8(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 [in, out] -> symmetric int8 [in, out], its scale float32 []."""
    scale = np.float32(max(np.abs(array).max(), 1e-12) / 127)
    return np.round(array / scale).astype(np.int8), np.array(scale)


def int4_product(nodes: Nodes, x: str, weights: np.ndarray, bias: np.ndarray | None = None) -> str:
    """x [..., in] times float32 [in, out], held in 4 bits, plus bias: `MatMulNBits` with its
    products in int8.

    Each block of a column has a scale that takes its largest number to -8 and 0 to 0; two go into a
    byte.
    """
    count, width = weights.shape
    blocks = np.pad(weights.T, ((0, 0), (0, -count % INT4_BLOCK))).reshape(width, -1, INT4_BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
    scale = np.where(largest == 0, 1, largest / -8).astype(np.float32)
    whole = (np.clip(np.round(blocks / scale), -8, 7) + 8).astype(np.uint8)
    more = [] if bias is None else ["", "", bias]
    return nodes("MatMulNBits", x, whole[..., ::2] | whole[..., 1::2] << 4, scale[..., 0], *more,
                 domain="com.microsoft", K=count, N=width, bits=4, block_size=INT4_BLOCK,
                 accuracy_level=4)
