"""One step of each kind of core, as nodes of an ONNX loop. `loops.py` builds the loop."""

import numpy as np

from ..config import HIDDEN_DISTANCE, LARGEST_INTEGER, NORM_EPSILON, QUIETNESS, VECTOR_SCALE
from .nodes import INT32, INT64, Nodes, int8


class Body:
    """Base of the bodies of all cores: the input of the stack (previous frame and context), and the
    logits of a frame's books, as `nn.code_heads.SequentialHeads` and `ParallelHeads` compute them.

    In int8, weights are symmetric with one scale per matrix, and activations are quantized by each
    step's range. A subclass has stack(x): float32 [1, B, books·embedding_dim + context_channels] ->
    the features. `loops.LoopBuilder` uses:
        BODY(config, arrays, precision, main, body): config is the generator's, arrays its weights
            by the paths of the Keras variables. `body` holds the nodes of one step, `main` the
            nodes that run once per chunk.
        together: whether several books of a frame are drawn together.
        book_axis: whether codes and logits have an axis of books: of all books drawn together, or
            of length 1 for each book in order.
        features(previous, context): names in `body` of the previous frame, int32 [1, B] (several
            books: [1, B, books]), and of the context, float32 [1, B, context_channels] -> name of
            float32 [1, B, any width]. State s of the config's `states` is read from `body_{s}` and
            written to `body_{s}_out`, each [1, B, …].
        logits(book, features, drawn): name of the logits · `inverse_temperature` of a book, float32
            [1, B, num_codes], or with an axis of books, [1, B, books or 1, num_codes]. Called for
            the books in order; drawn: the codes of the books before.
    """

    def __init__(self, config, arrays, precision: str, main: Nodes, body: Nodes):
        self.config, self.precision = config, precision
        # Subtract the cost of quiet codes from the biases, see `nn.code_heads.Outputs`.
        self.arrays = arrays | {
            (bias := path.removesuffix(QUIETNESS) + "bias"): (
                arrays[bias] - config.core.quiet_cost * quiet)
            for path, quiet in arrays.items() if path.endswith("/" + QUIETNESS)}
        self.main, self.body = main, body
        self.quantized: dict[int, tuple[np.ndarray, ...]] = {}
        self.drawn_sum = ""  # the sum of the embeddings of the books drawn so far in a frame
        self.previous = ""
        self.together = config.books > 1 and config.core.drawing == "together"
        self.book_axis = self.together

    def features(self, previous: str, context: str) -> str:
        self.previous = previous
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
            outputs = self.output_layer("logits", features)
            if self.together:
                outputs = body("Reshape", outputs, [0, 0, self.config.books, -1])
            return self.add_repeat_logit(0, outputs)
        embedded = self.embed_drawn(book, drawn)
        self.drawn_sum = embedded if book == 1 else body("Add", self.drawn_sum, embedded)
        state = self.layer(f"state_{book}", features)
        hidden = body("FastGelu", body("Add", state, self.drawn_sum), domain="com.microsoft")
        return self.add_repeat_logit(book, self.output_layer(f"logits_{book}", hidden))

    def embed_drawn(self, book: int, drawn: list[str]) -> str:
        """The embedding, for `book`, of the code of the book before: [1, B, width]."""
        arrays, body = self.arrays, self.body
        embedded = body("Gather", arrays[f"before_{book}/embeddings"], drawn[-1], axis=0)
        if self.config.core.repeats:
            repeated = body("Cast", body("Equal", drawn[-1], self._previous_code(book - 1)),
                            to=INT32)
            repeated_or_changed = arrays[f"changed_{book}/embeddings"][::-1]
            embedded = body("Add", embedded, body("Gather", repeated_or_changed, repeated, axis=0))
        return embedded

    def _previous_code(self, book: int) -> str:
        """[1, B]: a book's code in the previous frame."""
        return (self.previous if self.config.books == 1
                else self.body("Gather", self.previous, book, axis=2))

    def add_repeat_logit(self, book: int, outputs: str) -> str:
        """With `repeats`, add the last output of a book to the logit of its previous code: -> [1,
        B, codes] or [1, B, books, codes].
        """
        body, count = self.body, self.config.num_codes
        if not self.config.core.repeats:
            return outputs
        logits, repeat = body.split(outputs, count, 1)
        previous = self.previous if self.together else self._previous_code(book)
        # The start token equals none of the codes.
        previous = body("Unsqueeze", previous, [3 if self.together else 2])
        is_previous = body("Equal", previous, np.arange(count, dtype=np.int32))
        return body("Where", is_previous, body("Add", logits, repeat), logits)

    def dense(self, x: str, kernel, bias) -> str:
        body = self.body
        if self.precision == "float32":
            return body("Add", body("MatMul", x, kernel), bias)
        # Quantize each matrix once, because several nodes may share it.
        if id(kernel) not in self.quantized:
            self.quantized[id(kernel)] = kernel, *int8(kernel)
        _, w, scale = self.quantized[id(kernel)]
        return body("DynamicQuantizeMatMul", x, w, scale, np.array(0, np.int8),
                    bias, domain="com.microsoft")

    def output_layer(self, name: str, x: str) -> str:
        """The dense layer `name` of x, divided by the temperature."""
        kernel, bias = self.arrays[f"{name}/kernel"], self.arrays[f"{name}/bias"]
        main, body = self.main, self.body
        if self.precision != "int8":
            return body("Mul", self.dense(x, kernel, bias), "inverse_temperature")
        # The scale and the bias are divided once per chunk, so a step needs no further node.
        w, scale = int8(kernel)
        main.node("Mul", scale, "inverse_temperature", outputs=[f"{name}_scale"])
        main.node("Mul", bias, "inverse_temperature", outputs=[f"{name}_bias"])
        zero = np.array(0, np.int8)
        return body("DynamicQuantizeMatMul", x, w, f"{name}_scale", zero,
                    f"{name}_bias", domain="com.microsoft")

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
        """[..., 2·width] -> [..., width], as `nn.code_heads.gated`."""
        value, gate = self.body.split(x, width, width)
        return self.body("Mul", self.body("Tanh", value), self.body("Sigmoid", gate))

    def norm(self, name: str, x: str) -> str:
        """Layer normalisation `name`, applied to x."""
        return self.body("LayerNormalization", x, self.arrays[f"{name}/gamma"],
                         self.arrays[f"{name}/beta"], epsilon=NORM_EPSILON)

    def layer(self, name: str, x: str) -> str:
        """Dense layer `name`, applied to x."""
        return self.dense(x, self.arrays[f"{name}/kernel"], self.arrays[f"{name}/bias"])


class LSTMBody(Body):
    """The body of `nn.cores.LSTMStack`."""

    def stack(self, x: str) -> str:
        body, units = self.body, self.config.core.units
        for i in range(self.config.core.layers):
            kernel, recurrent, bias = (
                onnx_gates(self.arrays[f"lstm_{i}/lstm_cell/{name}"])
                for name in ("kernel", "recurrent_kernel", "bias"))
            bias = np.concatenate([bias, np.zeros_like(bias)])[None]
            state = f"body_h_{i}", f"body_c_{i}"
            outputs = ["", f"body_h_{i}_out", f"body_c_{i}_out"]
            if self.precision == "int8":
                (w, w_scale), (r, r_scale) = int8(kernel), int8(recurrent)
                scales = (w_scale[None], np.zeros(1, np.int8), r_scale[None], np.zeros(1, np.int8))
                body.node("DynamicQuantizeLSTM", x, w[None], r[None], bias, "", *state, "",
                          *scales, outputs=outputs, domain="com.microsoft", hidden_size=units)
            else:
                body.node("LSTM", x, kernel.T[None], recurrent.T[None], bias, "", *state,
                          outputs=outputs, hidden_size=units)
            x = outputs[1]
        return x


class WaveNetBody(Body):
    """The body of `nn.cores.WaveNetStack`."""

    def stack(self, x: str) -> str:
        body, core = self.body, self.config.core
        x, skips = self.layer("enter", x), ""
        for i, dilation in enumerate(core.dilations):
            taps = self.queue(i, x, core.kernel_size, dilation)
            z = self.gated(self.layer(f"gates_{i}", taps), core.channels)
            z = self.layer(f"mix_{i}", z)
            if i < len(core.dilations) - 1:
                z, more = body.split(z, core.skip_channels, core.channels)
                x = body("Add", x, more)
            skips = body("Add", skips, z) if skips else z
        scale = np.array(len(core.dilations) ** -0.5, np.float32)
        return body("FastGelu", body("Mul", skips, scale), domain="com.microsoft")


class TransformerBody(Body):
    """The body of `nn.cores.TransformerStack`: each step writes one slot of each layer's rings of
    keys and values, and attends to all slots. Only products with weights are in int8.
    """

    def stack(self, x: str) -> str:
        body, core = self.body, self.config.core
        count = body("Cast", "body_count", to=INT64)
        slot, distance = self._slot(count), self._distance(count)
        self._count_step()
        x = self.layer("enter", x)
        for i in range(core.layers):
            qkv = self.layer(f"qkv_{i}", self.norm(f"attention_norm_{i}", x))
            x = body("Add", x, self.layer(f"attended_{i}", self._attend(i, qkv, slot, distance)))
            wide = self.layer(f"expand_{i}", self.norm(f"feed_norm_{i}", x))
            wide = body("FastGelu", wide, domain="com.microsoft")
            x = body("Add", x, self.layer(f"contract_{i}", wide))
        return self.norm("norm", x)

    def _slot(self, count: str) -> str:
        """ScatterND's indices of this frame's slot in the rings: int64 [1, B, heads, 4]."""
        main, body, heads = self.main, self.body, self.config.core.heads
        rows = main("Gather", main("Shape", "count"), 0)
        row = main("Reshape", main("Range", 0, rows, 1), [1, -1, 1, 1])
        zeros = main("Mul", main("Add", row, np.zeros((1, 1, heads, 1), np.int64)), 0)
        head = main("Add", zeros, np.arange(heads).reshape(1, 1, heads, 1))
        first_axes = main("Concat", zeros, main("Add", zeros, row), head, axis=-1)
        slot = body("Unsqueeze", body("Mod", count, self.config.core.window), [3])
        return body("Concat", first_axes, body("Add", zeros, slot), axis=-1)

    def _distance(self, count: str) -> str:
        """The ALiBi penalty of each slot and of the sinks (0 for a sink): float32 [1, B, heads,
        window + sinks].
        """
        body, core = self.body, self.config.core
        window, heads = core.window, core.heads
        # Indexed by count − slot. A negative index is a slot not yet written, which is hidden.
        hidden = np.full(window, HIDDEN_DISTANCE)
        ages = np.concatenate([np.arange(window), np.arange(window), hidden])
        age = body("Gather", ages.astype(np.float32), body("Sub", count, np.arange(window)))
        slopes = 2.0 ** (-8.0 * np.arange(1, heads + 1) / heads)
        distance = body("Mul", body("Unsqueeze", age, [2]), slopes.astype(np.float32)[:, None])
        if core.sinks:
            distance = body("Pad", distance, [0] * 7 + [core.sinks])
        return distance

    def _count_step(self):
        """Increase the count of frames. At 2·window the count continues from `window`."""
        body, window = self.body, self.config.core.window
        below = body("Less", "body_count", np.array(2 * window - 1, np.float32))
        body.node("Where", below, body("Add", "body_count", np.array(1, np.float32)),
                  np.array(window, np.float32), outputs=["body_count_out"])

    def _attend(self, layer: int, qkv: str, slot: str, distance: str) -> str:
        """[1, B, 3·width] -> [1, B, width]."""
        body, core = self.body, self.config.core
        dim = core.width // core.heads
        query, *keys_and_values = body.split(qkv, core.width, core.width, core.width)
        query = body("Reshape", body("Mul", query, np.array(dim**-0.5, np.float32)),
                     [0, 0, core.heads, dim, 1])
        for name, x in zip(("keys", "values"), keys_and_values, strict=True):
            x = body("Reshape", x, [0, 0, core.heads, dim])
            ring = f"body_{name}_{layer}"
            body.node("ScatterND", ring, slot, x, outputs=[f"{ring}_out"])
        scores = body("MatMul", f"body_keys_{layer}_out", query)
        if core.sinks:
            sinks = body("MatMul", self.arrays[f"sinks_{layer}/keys"], query)
            scores = body("Concat", scores, sinks, axis=3)
        scores = body("Sub", body("Squeeze", scores, [4]), distance)
        shares = body("Unsqueeze", body("Softmax", scores, axis=-1), [3])
        values = f"body_values_{layer}_out"
        if core.sinks:
            shares, sinks = body.split(shares, core.window, core.sinks)
            mixed = body("Add", body("MatMul", shares, values),
                         body("MatMul", sinks, self.arrays[f"sinks_{layer}/values"]))
        else:
            mixed = body("MatMul", shares, values)
        return body("Reshape", mixed, [0, 0, core.width])


class PixelCNNBody(Body):
    """The body of `nn.cores.PixelCNNStack` and `GridHeads`: a step runs the vertical stack once,
    and the horizontal stack once for each book.
    """

    def __init__(self, config, arrays, precision: str, main: Nodes, body: Nodes):
        super().__init__(config, arrays, precision, main, body)
        self.row_inputs: list[list[str]] = [[] for _ in config.core.dilations]
        self.kernel_slices: dict[tuple[str, int], np.ndarray] = {}

    def features(self, previous: str, context: str) -> str:
        """[1, B, books, layers·2·channels]."""
        body, core, books = self.body, self.config.core, self.config.books
        self.previous = previous
        x = self.embed(self.arrays["embedding/embeddings"], previous)
        x = self.layer("enter", body("Reshape", x, [0, 0, books, core.embedding_dim]))
        if self.config.context_channels:
            context = self.layer("given", context)
            x = body("Add", x, body("Reshape", context, [0, 0, books, core.channels]))
        side, features = core.kernel_books // 2, []
        neighbours = np.arange(books)[:, None] + np.arange(core.kernel_books)
        for i, dilation in enumerate(core.dilations):
            taps = self.queue(i, x, core.kernel_frames, dilation)
            taps = body("Pad", taps, [0, 0, side, 0, 0, 0, side, 0])
            taps = body("Reshape", body("Gather", taps, neighbours, axis=2), [0, 0, books, -1])
            z = self.gated(self.layer(f"down_{i}", taps), core.channels)
            features.append(self.layer(f"link_{i}", z))
            x = body("Add", x, z)
        return body("Concat", *features, axis=-1)

    def logits(self, book: int, features: str, drawn: list[str]) -> str:
        body, core = self.body, self.config.core
        count = len(core.dilations)
        of_book = body("Gather", features, book, axis=2)
        links = body.split(of_book, *[2 * core.channels] * count) if count > 1 else [of_book]
        x = self.embed_drawn(book, drawn) if book else ""
        for i, link in enumerate(links):
            if x:
                self.row_inputs[i].append(x)
            # The input of the first book and of books outside the frame is zero, so it is left out.
            if row := self.row_inputs[i][-(core.kernel_books // 2 + 1):]:
                link = body("Add", link, self._across(i, row))
            else:
                link = body("Add", link, self.arrays[f"across_{i}/bias"])
            z = self.layer(f"mix_{i}", self.gated(link, core.channels))
            x = body("Add", x, z) if x else z
        hidden = body("FastGelu", self.layer("hidden", x), domain="com.microsoft")
        outputs = self.output_layer(f"logits_{book}" if book else "logits", hidden)
        return self.add_repeat_logit(book, outputs)

    def _across(self, layer: int, row: list[str]) -> str:
        """A layer's convolution over the last books of a frame, [1, B, channels] each."""
        path, width = f"across_{layer}/kernel", len(row) * self.config.core.channels
        kernel = self.kernel_slices.setdefault((path, width), self.arrays[path][-width:])
        return self.dense(self.body("Concat", *row, axis=-1), kernel,
                          self.arrays[f"across_{layer}/bias"])


class FramesBody(Body):
    """The body of `nn.cores.FramesStack`."""

    def features(self, previous: str, context: str) -> str:
        return self.body("FastGelu", self.layer("hidden", context), domain="com.microsoft")

    def logits(self, book: int, features: str, drawn: list[str]) -> str:
        """The logits, without the squares of the vectors, which are equal for all codes."""
        body, books = self.body, self.config.books
        codebook, weight = self.arrays["nearest/codebook"], self.arrays["nearest/weight"]
        factors = 2 * VECTOR_SCALE * weight * self.arrays["nearest/scale"]
        kernel = factors[:, None, None] * codebook.transpose(0, 2, 1)
        bias = -weight[:, None] * (codebook**2).sum(-1)
        vectors = body("Reshape", self.layer("vectors", features), [0, 0, books, -1])
        products = body("MatMul", body("Transpose", vectors, perm=[0, 2, 1, 3]), kernel)
        logits = body("Add", body("Transpose", products, perm=[0, 2, 1, 3]), bias)
        return body("Mul", logits, "inverse_temperature")


def onnx_gates(array: np.ndarray) -> np.ndarray:
    """Reorder the last axis from Keras's gates (input, forget, cell, output) to ONNX's (input,
    output, forget, cell).
    """
    i, f, c, o = np.split(array, 4, axis=-1)
    return np.concatenate([i, o, f, c], axis=-1)
