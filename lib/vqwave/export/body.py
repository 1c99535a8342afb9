"""The base of the bodies of all cores: one step of a core as nodes of an ONNX loop. `bodies.py` has
the kinds; `loops.py` builds the loop.
"""

import numpy as np

from ..generators.family.transformer import NORM_EPSILON
from ..levels.fields import LARGEST_INTEGER
from .nodes import Nodes, int8


class Body:
    """Base of the bodies of all cores: the input of the stack (previous frame and context), and the
    logits of a frame's books, as `code_heads_layer.SequentialHeads` computes them.

    In int8, weights are symmetric with one scale per matrix, and activations are quantized by each
    step's range. A subclass has stack(x): float32 [1, B, books·embedding_dim + context_channels] ->
    the features. `loops.LoopBuilder` uses:
        int8: whether engine `onnx` plays the core with int8 weights, for speed.
        BODY(config, arrays, precision, main, body): config is the generator's, arrays its weights
            by the paths of the Keras variables. `body` holds the nodes of one step, `main` the
            nodes that run once per chunk.
        together: whether all books of a frame are drawn at once. Then codes and logits have an
            axis of books.
        in_passes: whether they are drawn in passes, see `LoopBuilder._passes`.
        features(previous, context): names in `body` of the previous frame, int32 [1, B] (several
            books: [1, B, books]), and of the context, float32 [1, B, context_channels] -> name of
            float32 [1, B, any width]. State s of the config's `states` is read from `body_{s}` and
            written to `body_{s}_out`, each [1, B, …].
        logits(book, features, drawn): name of the logits · `inverse_temperature` of a book, float32
            [1, B, num_codes], or with an axis of books, [1, B, books, num_codes]. Called for the
            books in order; drawn: the codes of the books before. In passes: one name, of the codes
            of all books in the pass before, [1, B, books].
    """

    int8 = True
    together = in_passes = False
    uniforms: str
    """The name of the step's draws, float32 [1, B, books]; a performer's noise."""

    def __init__(self, config, arrays, precision: str, main: Nodes, body: Nodes):
        self.config, self.arrays, self.precision = config, arrays, precision
        self.main, self.body = main, body
        self.quantized: dict[int, tuple[np.ndarray, ...]] = {}
        self.drawn_sum = ""  # the sum of the embeddings of the books drawn so far in a frame

    def features(self, previous: str, context: str) -> str:
        x = self.embed(self.arrays["embedding/embeddings"], previous)
        if self.config.context_channels:
            x = self.body("Concat", x, context, axis=-1)
        return self.stack(x)

    def stack(self, x: str) -> str:
        """The core's layers over one frame: [1, B, any width] -> features of the frame."""
        raise NotImplementedError

    def logits(self, book: int, features: str, drawn: list[str]) -> str:
        body = self.body
        if not book:
            return self.output_layer("logits", features)
        embedded = self.embed_drawn(book, drawn)
        self.drawn_sum = embedded if book == 1 else body("Add", self.drawn_sum, embedded)
        state = self.layer(f"state_{book}", features)
        hidden = body("FastGelu", body("Add", state, self.drawn_sum), domain="com.microsoft")
        return self.output_layer(f"logits_{book}", hidden)

    def embed_drawn(self, book: int, drawn: list[str]) -> str:
        """The embedding, for `book`, of the code of the book before: [1, B, width]."""
        return self.body("Gather", self.arrays[f"before_{book}/embeddings"], drawn[-1], axis=0)

    def dense(self, x: str, kernel, bias, scale: str = "") -> str:
        """The dense layer of x. scale: in int8, replaces the scale of the kernel."""
        if self.precision == "float32":
            return self.body("Add", self.body("MatMul", x, kernel), bias)
        w, own = self.quantize(kernel)
        return self.body("DynamicQuantizeMatMul", x, w, scale or own, "", bias,
                         domain="com.microsoft")

    def quantize(self, kernel) -> tuple[np.ndarray, ...]:
        """(int8 kernel, scale), made once for each kernel, because several nodes may share it."""
        if id(kernel) not in self.quantized:
            self.quantized[id(kernel)] = kernel, *int8(kernel)
        return self.quantized[id(kernel)][1:]

    def output_layer(self, name: str, x: str) -> str:
        """The dense layer `name` of x, divided by the temperature."""
        kernel, bias = self.arrays[f"{name}/kernel"], self.arrays[f"{name}/bias"]
        if self.precision == "float32":
            return self.body("Mul", self.dense(x, kernel, bias), "inverse_temperature")
        # The scale and the bias are divided once per chunk, so a step needs no further node.
        for part, value in (("scale", self.quantize(kernel)[1]), ("bias", bias)):
            self.main.node("Mul", value, "inverse_temperature", outputs=[f"{name}_{part}"])
        return self.dense(x, kernel, f"{name}_bias", f"{name}_scale")

    def embed(self, table: np.ndarray, frame: str) -> str:
        """[1, B, width]: the concatenated embeddings of a frame's books."""
        books, body = self.config.books, self.body
        if books == 1:
            return body("Gather", table, frame, axis=0)
        first_rows = (np.arange(books) * (self.config.num_codes + 1)).astype(np.int32)
        vectors = body("Gather", table, body("Add", frame, first_rows), axis=0)
        return body("Reshape", vectors, [0, 0, -1])

    def queue(self, layer: int, x: str, count: int, dilation: int) -> str:
        """The `count` taps of a dilated convolution, of which x [1, B, …, c] is the last: [1, B, …,
        count·c]. The layer's queue drops its oldest frame and appends x.
        """
        body, name = self.body, f"body_queue_{layer}"
        rest = body("Slice", name, [1], [LARGEST_INTEGER], [2])
        body.node("Concat", rest, body("Unsqueeze", x, [2]), outputs=[f"{name}_out"], axis=2)
        taps = [body("Gather", name, j * dilation, axis=2) for j in range(count - 1)]
        return body("Concat", *taps, x, axis=-1)

    def gated(self, x: str, width: int) -> str:
        """[..., 2·width] -> [..., width], as `code_heads_layer.gated`."""
        value, gate = self.body.split(x, width, width)
        return self.body("Mul", self.body("Tanh", value), self.body("Sigmoid", gate))

    def norm(self, name: str, x: str) -> str:
        """Layer normalisation `name`, applied to x."""
        return self.body("LayerNormalization", x, self.arrays[f"{name}/gamma"],
                         self.arrays[f"{name}/beta"], epsilon=NORM_EPSILON)

    def layer(self, name: str, x: str) -> str:
        """Dense layer `name`, applied to x."""
        return self.dense(x, self.arrays[f"{name}/kernel"], self.arrays[f"{name}/bias"])

    def lstm_weights(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The kernel, recurrent kernel and bias of an LSTM, with the gates in ONNX's order (input,
        output, forget, cell) instead of Keras's (input, forget, cell, output).
        """
        def reorder(part):
            i, f, c, o = np.split(self.arrays[f"{name}/lstm_cell/{part}"], 4, axis=-1)
            return np.concatenate([i, o, f, c], axis=-1)

        bias = reorder("bias")
        return (reorder("kernel"), reorder("recurrent_kernel"),
                np.concatenate([bias, np.zeros_like(bias)])[None])
