"""One step of a core as nodes of an ONNX loop: a walk over the operations of its Keras `step`.

For symbolic tensors, Keras keeps `step` as a graph of layers and operations. `CONVERTERS` has the
nodes of each. A layer that is not there is followed into its `call`. A tensor [B, …] of Keras is
[1, B, …] here, the shape of an LSTM node, so that no node reshapes.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from .nodes import BOOL, FLOAT, INT32, INT64, Nodes, int8

TYPES = {"float32": FLOAT, "int32": INT32, "int64": INT64, "bool": BOOL}


class Walk:
    """Adds the nodes of Keras tensors to `nodes`, each once. precision: of matrices, "float32" or
    "int8": symmetric, with a scale for each matrix; activations are quantized by their range.

    names: the name of each symbolic tensor that is known, by its id.
    """

    def __init__(self, nodes: Nodes, precision: str):
        self.nodes, self.precision = nodes, precision
        self.names: dict[int, str] = {}
        self.without_books: set[int] = set()  # frames of one book, which lack the axis of books
        self.held: list[Any] = []  # what `names` and `arrays` know by id must live on
        self.arrays: dict[tuple, np.ndarray] = {}
        self.matrices: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def bind(self, tensor, name: str):
        """Give a symbolic tensor a name."""
        self.names[id(tensor)] = name
        self.held.append(tensor)

    def __call__(self, tensor) -> str:
        """The name of a symbolic tensor."""
        if id(tensor) not in self.names:
            operation, index, _ = tensor._keras_history
            node = operation._inbound_nodes[index]
            self._convert(operation, node)
        return self.names[id(tensor)]

    def _convert(self, operation, node):
        arguments, kind = node.arguments, type(operation)
        if convert := CONVERTERS.get(kind.__name__):
            result = convert(self, operation, node.outputs[0], *arguments.args, **arguments.kwargs)
        elif isinstance(operation, layers.Layer):
            result = operation.call(*arguments.args, **arguments.kwargs)
            result = [self(x) for x in keras.tree.flatten(result)]
        else:
            raise NotImplementedError(f"a core's step has an operation {kind.__name__}, which "
                                      f"export/step.py does not convert")
        for tensor, name in zip(node.outputs, [result] if isinstance(result, str) else result,
                                strict=True):
            self.bind(tensor, name)

    def array(self, x, dtype: str | None = None) -> np.ndarray:
        """A constant as an array, the same for each use."""
        if isinstance(x, bool | int | float | list | tuple):
            return np.asarray(x, dtype)
        if (id(x), dtype) not in self.arrays:
            self.arrays[id(x), dtype] = np.asarray(ops.convert_to_numpy(x), dtype)
            self.held.append(x)
        return self.arrays[id(x), dtype]

    def input(self, x, dtype: str = "float32"):
        """An operand: the name of a tensor of this type, or a constant."""
        if not isinstance(x, keras.KerasTensor):
            return self.array(x, dtype)
        return self(x) if x.dtype == dtype else self.nodes("Cast", self(x), to=TYPES[dtype])

    def dense(self, x: str, kernel: np.ndarray, bias=None, scale: str = "") -> str:
        """x · kernel + bias. scale: in int8, takes the place of the kernel's."""
        if self.precision == "float32":
            product = self.nodes("MatMul", x, kernel)
            return product if bias is None else self.nodes("Add", product, bias)
        matrix, own = self.quantize(kernel)
        return self.nodes("DynamicQuantizeMatMul", x, matrix, scale or own, "",
                          "" if bias is None else bias, domain="com.microsoft")

    def quantize(self, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(int8 kernel, scale), made once for each kernel, because several nodes may share it."""
        if id(kernel) not in self.matrices:
            self.matrices[id(kernel)] = int8(kernel)
        return self.matrices[id(kernel)]

    def scaled(self, logits, factor: str, main: Nodes) -> str:
        """The name of logits · `factor`, an input of the graph of `main`. In int8 the last layer is
        scaled once, in `main`, so that a step needs no further node.
        """
        layer, index, _ = logits._keras_history
        if self.precision == "float32" or type(layer) is not layers.Dense:
            return self.nodes("Mul", self(logits), factor)
        kernel, bias = self.array(layer.kernel), self.array(layer.bias)
        scale, bias = (main("Mul", x, factor) for x in (self.quantize(kernel)[1], bias))
        x, = layer._inbound_nodes[index].arguments.args
        return self.dense(self(x), kernel, bias, scale)


def of_all_books(logits: list):
    """The tensor [B, books, codes] whose parts `[:, k]` are the logits of the books; None if there
    is none. If there is, all books are drawn together.
    """
    operations = [tensor._keras_history for tensor in logits]
    if len(logits) < 2 or {type(x.operation).__name__ for x in operations} != {"GetItem"}:
        return None
    calls = [x.operation._inbound_nodes[x.node_index].arguments.args for x in operations]
    same = len({id(tensor) for tensor, _ in calls}) == 1
    keys = [(slice(None), book) for book in range(len(logits))]
    return calls[0][0] if same and [key for _, key in calls] == keys else None


def _elementwise(kind: str):
    def convert(walk: Walk, operation, out, a, b):
        kinds = {x.dtype for x in (a, b) if isinstance(x, keras.KerasTensor)}
        compared = out.dtype == "bool"
        dtype = (kinds.pop() if len(kinds) == 1 else "float32") if compared else out.dtype
        a, b = walk.input(a, dtype), walk.input(b, dtype)
        if kind == "Add":  # sums that begin with 0
            for x, other in ((a, b), (b, a)):
                if not isinstance(x, str) and not x.ndim and x == 0:
                    return other
        options = {"fmod": 1} if kind == "Mod" and dtype == "float32" else {}
        return walk.nodes(kind, a, b, **options)

    return convert


def _unary(kind: str, domain: str = ""):
    def convert(walk: Walk, operation, out, x, **options):
        return walk.nodes(kind, walk(x), domain=domain)

    return convert


def _axis(axis: int) -> int:
    """An axis of a Keras tensor, in ONNX."""
    return axis + 1 if axis >= 0 else axis


def _dense(walk: Walk, operation, out, x):
    bias = walk.array(operation.bias) if operation.use_bias else None
    return walk.dense(walk(x), walk.array(operation.kernel), bias)


def _lstm_cell(walk: Walk, operation, out, x, states, training=False):
    """One step of an LSTM: the outputs h, h and c."""

    def reorder(part):
        # ONNX orders the gates as input, output, forget, cell.
        i, f, c, o = np.split(walk.array(part), 4, axis=-1)
        return np.concatenate([i, o, f, c], axis=-1)

    kernel, recurrent, bias = map(reorder, (operation.kernel, operation.recurrent_kernel,
                                            operation.bias))
    bias = np.concatenate([bias, np.zeros_like(bias)])[None]
    nodes, x, states = walk.nodes, walk(x), [walk(s) for s in states]
    outputs = nodes.names("h", "c")
    if walk.precision == "int8":
        (w, w_scale), (r, r_scale) = int8(kernel), int8(recurrent)
        zero = np.zeros(1, np.int8)
        nodes.node("DynamicQuantizeLSTM", x, w[None], r[None], bias, "", *states, "",
                   w_scale[None], zero, r_scale[None], zero, outputs=["", *outputs],
                   domain="com.microsoft", hidden_size=operation.units)
    else:
        nodes.node("LSTM", x, kernel.T[None], recurrent.T[None], bias, "", *states,
                   outputs=["", *outputs], hidden_size=operation.units)
    return [outputs[0], *outputs]


def _layer_norm(walk: Walk, operation, out, x):
    return walk.nodes("LayerNormalization", walk(x), walk.array(operation.gamma),
                      walk.array(operation.beta), epsilon=operation.epsilon)


def _conv(walk: Walk, operation, out, x, kernel=None):
    """A convolution of [B, n, c] over n: a layer, or an operation with this kernel."""
    nodes, bias = walk.nodes, []
    if kernel is None:
        kernel, bias = operation.kernel, [walk.array(operation.bias)]
    side = kernel.shape[0] // 2 if operation.padding == "same" else 0
    x = nodes("Transpose", nodes("Squeeze", walk(x), [0]), perm=[0, 2, 1])
    kernel = np.ascontiguousarray(walk.array(kernel).transpose(2, 1, 0))
    x = nodes("Conv", x, kernel, *bias, pads=[side, side])
    return nodes("Unsqueeze", nodes("Transpose", x, perm=[0, 2, 1]), [0])


def _get_item(walk: Walk, operation, out, x, key):
    """x[key]: integers, slices, None and an ellipsis."""
    nodes, name = walk.nodes, walk(x)
    if id(x) in walk.without_books and key == (Ellipsis, 0):
        return name
    key = key if isinstance(key, tuple) else (key,)
    if Ellipsis in key:
        at = key.index(Ellipsis)
        missing = len(x.shape) - sum(k is not None for k in key) + 1
        key = (*key[:at], *[slice(None)] * missing, *key[at + 1 :])
    axis, cuts, picks, new = 1, [], [], []
    for place, k in enumerate(key):
        if k is None:
            new.append(1 + place - sum(isinstance(k, int) for k in key[:place]))
            continue
        if isinstance(k, slice) and (k.start is not None or k.stop is not None):
            cuts.append((k.start or 0, np.iinfo(np.int32).max if k.stop is None else k.stop, axis))
        elif isinstance(k, int):
            picks.append((axis, k))
        axis += 1
    if cuts:
        name = nodes("Slice", name, *map(list, zip(*cuts, strict=True)))
    for axis, k in reversed(picks):
        name = nodes("Gather", name, k, axis=axis)
    return nodes("Unsqueeze", name, new) if new else name


def _reshape(walk: Walk, operation, out, x):
    """The batch, whose size is unknown, is a −1; or a 0, for the same axis, beside another −1."""
    shape = operation.newshape
    unknown = 0 if -1 in shape else -1
    return walk.nodes("Reshape", walk(x), [1, *(unknown if s is None else s for s in shape)])


def _concatenate(walk: Walk, operation, out, parts):
    return walk.nodes("Concat", *(walk.input(x, out.dtype) for x in parts),
                      axis=_axis(operation.axis))


def _stack(walk: Walk, operation, out, parts):
    axis = _axis(operation.axis)
    return walk.nodes("Concat", *(walk.nodes("Unsqueeze", walk(x), [axis]) for x in parts),
                      axis=axis)


def _split(walk: Walk, operation, out, x):
    count, axis = operation.indices_or_sections, _axis(operation.axis)
    return walk.nodes.split(walk(x), *[x.shape[operation.axis] // count] * count, axis=axis)


def _unstack(walk: Walk, operation, out, x):
    axis = _axis(operation.axis)
    return [walk.nodes("Gather", walk(x), k, axis=axis) for k in range(x.shape[operation.axis])]


def _pad(walk: Walk, operation, out, x, constant_values=None):
    before, after = zip((0, 0), *operation.pad_width, strict=True)
    return walk.nodes("Pad", walk(x), [*before, *after])


def _transpose(order: Callable):
    def convert(walk: Walk, operation, out, x):
        perm = order(operation, list(range(len(x.shape))))
        return walk.nodes("Transpose", walk(x), perm=[0, *(axis + 1 for axis in perm)])

    return convert


def _swapped(operation, axes):
    a, b = operation.axis1, operation.axis2
    axes[a], axes[b] = axes[b], axes[a]
    return axes


def _sum(walk: Walk, operation, out, x):
    axes = operation.axis if isinstance(operation.axis, list | tuple) else [operation.axis]
    return walk.nodes("ReduceSum", walk(x), [_axis(axis) for axis in axes],
                      keepdims=int(operation.keepdims))


def _one_hot(walk: Walk, operation, out, x):
    classes = np.arange(operation.num_classes, dtype=np.int32)
    return walk.nodes("Cast", walk.nodes("Equal", walk.nodes("Unsqueeze", walk(x), [-1]), classes),
                      to=FLOAT)


def _top_k(walk: Walk, operation, out, x):
    nodes, x = walk.nodes, walk(x)
    values, places = nodes.names("top", "at")
    nodes.node("TopK", x, [operation.k], outputs=[values, places], axis=-1)
    return [values, nodes("Cast", places, to=INT32)]


def _take_along_axis(walk: Walk, operation, out, x, indices):
    """Along axis 1 of [B, n, c]. indices: [B, k, 1], for all c."""
    nodes, steps = walk.nodes, walk.nodes("Cast", walk(indices), to=INT64)
    return nodes("GatherElements", walk(x), nodes("Expand", steps, [1, 1, 1, x.shape[-1]]),
                 axis=_axis(operation.axis))


CONVERTERS: dict[str, Callable] = {
    "Dense": _dense, "LSTMCell": _lstm_cell, "LayerNormalization": _layer_norm, "Conv1D": _conv,
    "Conv": _conv, "Dropout": lambda walk, operation, out, x, **options: walk(x),
    "Embedding": lambda walk, operation, out, codes: walk.nodes(
        "Gather", walk.array(operation.embeddings), walk(codes), axis=0),
    "Add": _elementwise("Add"), "Subtract": _elementwise("Sub"), "Multiply": _elementwise("Mul"),
    "Divide": _elementwise("Div"), "TrueDivide": _elementwise("Div"), "Mod": _elementwise("Mod"),
    "Power": _elementwise("Pow"), "Equal": _elementwise("Equal"), "Less": _elementwise("Less"),
    "GreaterEqual": _elementwise("GreaterOrEqual"), "Greater": _elementwise("Greater"),
    "Tanh": _unary("Tanh"), "Sigmoid": _unary("Sigmoid"), "Exp": _unary("Exp"),
    "Sqrt": _unary("Sqrt"), "Relu": _unary("Relu"), "Gelu": _unary("FastGelu", "com.microsoft"),
    "Softmax": lambda walk, operation, out, x: walk.nodes(
        "Softmax", walk(x), axis=_axis(operation.axis)),
    "Log1p": lambda walk, operation, out, x: walk.nodes(
        "Log", walk.nodes("Add", walk(x), np.ones((), np.float32))),
    "Cumsum": lambda walk, operation, out, x: walk.nodes("CumSum", walk(x), _axis(operation.axis)),
    "GetItem": _get_item, "Reshape": _reshape, "Concatenate": _concatenate, "Stack": _stack,
    "Split": _split, "Unstack": _unstack, "Pad": _pad, "Swapaxes": _transpose(_swapped),
    "Transpose": _transpose(lambda operation, axes: operation.axes or axes[::-1]),
    "Matmul": lambda walk, operation, out, a, b: walk.nodes("MatMul", walk.input(a), walk.input(b)),
    # A constant has no axes that the ellipsis stands for.
    "Einsum": lambda walk, operation, out, *operands: walk.nodes(
        "Einsum", *map(walk.input, operands), equation=operation.subscripts),
    "Where": lambda walk, operation, out, condition, a, b: walk.nodes(
        "Where", walk.input(condition, "bool"), walk.input(a, out.dtype), walk.input(b, out.dtype)),
    # Rows of a constant table; without an axis, of its numbers.
    "Take": lambda walk, operation, out, table, indices: walk.nodes(
        "Gather", walk.array(table), walk(indices), axis=operation.axis or 0),
    "Cast": lambda walk, operation, out, x: walk.input(x, out.dtype),
    "ZerosLike": lambda walk, operation, out, x, dtype=None: walk.nodes(
        "Mul", walk.input(x, out.dtype), np.zeros((), out.dtype)),
    "Sum": _sum, "OneHot": _one_hot, "TopK": _top_k, "TakeAlongAxis": _take_along_axis,
}
"""The nodes of each kind of operation and layer: (walk, operation, its first output, its arguments)
-> the names of its outputs.
"""
