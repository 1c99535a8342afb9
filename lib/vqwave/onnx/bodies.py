"""What a step of each kind of core does, as nodes of an ONNX loop; `loops.py` has the loop around
it.
"""

from __future__ import annotations

import numpy as np

from ..config import FAR, LARGEST, NORM_EPSILON, QUIET
from .nodes import INT4_BLOCK, Nodes, int4_product, int8

# From so many units on 4-bit weights are played for few streams.
INT4_UNITS = 768


def with_quiet_cost(config, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays with what quiet codes cost taken off the biases, see `nn.cores.Outputs`."""
    costs = {path.removesuffix(QUIET) + "bias": config.core.quiet_cost * array
             for path, array in arrays.items() if path.endswith("/" + QUIET)}
    return arrays | {path: arrays[path] - cost for path, cost in costs.items()}


class Body:
    """What the bodies of all cores share: the frame before and the context on their way in, and the
    books of a frame on their way out, as `nn.cores.BooksInOrder` and `BooksTogether` have them. In
    int8 weights are symmetric, one scale a matrix, and activations as each step's range asks.

    What such a class offers `loop_graph`, for a core of any kind:
        BODY(config, arrays, precision, main, body): config is the generator's, arrays its weights
            by the Keras variables' paths; it adds nodes to `body`, one step, and to `main`, once a
            chunk.
        precisions(config): what the ONNX engine holds its weights in, the one for few streams
            first.
        bytes_per_step(config, arrays): bytes of weights that a step reads, by precision:
            every one that the loop can be built in, float32 among them.
        together: whether the books of a frame, of which there are several, are drawn together.
        context_width: channels of what `context` makes.
        context(name): what each step gets of the context, from the whole chunk's float32 [n, B, C];
            a name in `main`, float32 [n, B, context_width].
        features(previous, context): names in `body` of the frame before, int32 [1, B] (with several
            books [1, B, books]), and of the context, float32 [1, B, context_width] -> the name of
            float32 [1, B, any width]. It reads each state s of the config's `states` from
            `body_{s}` and writes `body_{s}_out`, [1, B, …] both.
        logits(book, features, drawn): called for each draw in order; the name of float32 [1, B,
            num_codes], or [1, B, books, num_codes] of books together, times `inverse_temperature`.

    A core of its own has `stack`, from what goes in to the features.
    """

    def __init__(self, config, arrays, precision: str, main: Nodes, body: Nodes):
        self.config, self.precision = config, precision
        self.arrays = with_quiet_cost(config, arrays)
        self.main, self.body = main, body
        self.held: dict[int, tuple[np.ndarray, ...]] = {}
        self.before = ""  # what the books drawn so far in a frame add to the next one's
        self.previous = ""  # the frame before
        self.together = config.books > 1 and config.core.drawing == "together"
        self.context_width = config.context_channels

    @staticmethod
    def precisions(config) -> list[str]:
        return ["int8"]

    @staticmethod
    def bytes_per_step(config, arrays: dict[str, np.ndarray]) -> dict[str, int]:
        """Every matrix, and a row of each book's embedding."""
        count = sum(a.size for path, a in arrays.items() if path.endswith("kernel"))
        row = 4 * config.books * config.core.embedding_dim
        return {"int8": count + row, "float32": 4 * count + row}

    def context(self, given: str) -> str:
        return given

    def features(self, previous: str, context: str) -> str:
        self.previous = previous
        x = self.embed(self.arrays["embedding/embeddings"], previous)
        if self.config.context_channels:
            x = self.body("Concat", x, context, axis=-1)
        return self.stack(x)

    def stack(self, x: str) -> str:
        """float32 [1, B, books·embedding_dim + context_channels] -> the features."""
        raise NotImplementedError

    def logits(self, book: int, features: str, drawn: list[str]) -> str:
        """logits / temperature [1, B, codes] of a book, or [1, B, books, codes] of all; drawn: the
        codes [1, B] of those before it in the frame.
        """
        arrays, body = self.arrays, self.body
        if not book:
            outputs = self._temper("logits", features)
            if self.together:
                outputs = body("Reshape", outputs, np.array([0, 0, self.config.books, -1]))
            return self._point(0, outputs)
        added = self.told(book, drawn)
        self.before = added if book == 1 else body("Add", self.before, added)
        state = self.dense(features, arrays[f"state_{book}/kernel"], arrays[f"state_{book}/bias"])
        hidden = body("FastGelu", body("Add", state, self.before), domain="com.microsoft")
        return self._point(book, self._temper(f"logits_{book}", hidden))

    def told(self, book: int, drawn: list[str]) -> str:
        """What a book is told of the code before it in the frame, [1, B, any width]."""
        from onnx import TensorProto

        arrays, body = self.arrays, self.body
        added = body("Gather", arrays[f"before_{book}/embeddings"], drawn[-1], axis=0)
        if self.config.core.repeats:
            same = body("Cast", body("Equal", drawn[-1], self._previous_code(book - 1)),
                        to=TensorProto.INT32)
            stays_and_changes = arrays[f"changed_{book}/embeddings"][::-1]
            added = body("Add", added, body("Gather", stays_and_changes, same, axis=0))
        return added

    def _previous_code(self, book: int) -> str:
        """[1, B]: a book's code in the frame before."""
        return (self.previous if self.config.books == 1
                else self.body("Gather", self.previous, np.array(book), axis=2))

    def _point(self, book: int, outputs: str) -> str:
        """A book's outputs, or those of all, -> logits [1, B, codes] or [1, B, books, codes]."""
        body, count = self.body, self.config.num_codes
        if not self.config.core.repeats:
            return outputs
        logits, repeat = body.split(outputs, count, 1)
        before = self.previous if self.together else self._previous_code(book)
        # The start token equals none of them.
        before = body("Unsqueeze", before, np.array([3 if self.together else 2]))
        here = body("Equal", before, np.arange(count, dtype=np.int32))
        return body("Where", here, body("Add", logits, repeat), logits)

    def dense(self, x: str, kernel, bias) -> str:
        body = self.body
        if self.precision == "float32":
            return body("Add", body("MatMul", x, kernel), bias)
        if self.precision == "int4":
            return int4_product(body, x, kernel, bias)
        # Held once, however many nodes multiply with it.
        if id(kernel) not in self.held:
            self.held[id(kernel)] = kernel, *int8(kernel)
        _, w, scale = self.held[id(kernel)]
        return body("DynamicQuantizeMatMul", x, w, scale, np.array(0, np.int8),
                    bias, domain="com.microsoft")

    def _temper(self, name: str, x: str) -> str:
        """The layer `name` of x, divided by the temperature."""
        kernel, bias = self.arrays[f"{name}/kernel"], self.arrays[f"{name}/bias"]
        main, body = self.main, self.body
        if self.precision != "int8":
            return body("Mul", self.dense(x, kernel, bias), "inverse_temperature")
        # The temperature goes into the scale and the bias, once a chunk, and costs the step
        # nothing.
        w, scale = int8(kernel)
        main.node("Mul", scale, "inverse_temperature", outputs=[f"{name}_scale"])
        main.node("Mul", bias, "inverse_temperature", outputs=[f"{name}_bias"])
        zero = np.array(0, np.int8)
        return body("DynamicQuantizeMatMul", x, w, f"{name}_scale", zero,
                    f"{name}_bias", domain="com.microsoft")

    def embed(self, table: np.ndarray, previous: str) -> str:
        """[1, B, width]: the vectors of a frame's books side by side."""
        books, body = self.config.books, self.body
        if books == 1:
            return body("Gather", table, previous, axis=0)
        first = (np.arange(books) * (self.config.num_codes + 1)).astype(np.int32)
        vectors = body("Gather", table, body("Add", previous, first), axis=0)
        return body("Reshape", vectors, np.array([0, 0, -1]))

    def queue(self, layer: int, x: str, count: int, dilation: int) -> str:
        """x [1, B, …, c] and what stands 1, 2, … times `dilation` frames before it, `count` in
        all, side by side: [1, B, …, count·c]. It goes to the end of the layer's queue.
        """
        body, name = self.body, f"body_queue_{layer}"
        kept = body("Slice", name, np.array([1]), np.array([LARGEST]), np.array([2]))
        body.node("Concat", kept, body("Unsqueeze", x, np.array([2])), outputs=[f"{name}_out"],
                  axis=2)
        taps = [body("Gather", name, np.array(j * dilation), axis=2) for j in range(count - 1)]
        return body("Concat", *taps, x, axis=-1)

    def gated(self, x: str, width: int) -> str:
        """[..., 2·width] -> [..., width], as `nn.cores.gated`."""
        value, gate = self.body.split(x, width, width)
        return self.body("Mul", self.body("Tanh", value), self.body("Sigmoid", gate))

    def norm(self, name: str, x: str) -> str:
        """The layer normalisation `name` of x."""
        return self.body("LayerNormalization", x, self.arrays[f"{name}/gamma"],
                         self.arrays[f"{name}/beta"], epsilon=NORM_EPSILON)

    def layer(self, name: str, x: str) -> str:
        """The dense layer `name` of x."""
        return self.dense(x, self.arrays[f"{name}/kernel"], self.arrays[f"{name}/bias"])


class LSTMBody(Body):
    """The body of `nn.cores.LSTMStack`. In 4 bits one product a layer, where what is read of the
    weights sets the speed.
    """

    def __init__(self, config, arrays, precision: str, main: Nodes, body: Nodes):
        super().__init__(config, arrays, precision, main, body)
        # In 4 bits what the context adds to the first layer's gates comes from outside the loop.
        if precision == "int4":
            self.context_width = 4 * config.core.units

    @staticmethod
    def precisions(config) -> list[str]:
        return ["int4", "int8"] if config.core.units >= INT4_UNITS else ["int8"]

    @staticmethod
    def bytes_per_step(config, arrays: dict[str, np.ndarray]) -> dict[str, int]:
        """In 4 bits a block's scale counts too; the first layer's inputs come as a row each of its
        gates.
        """
        count = sum(a.size for path, a in arrays.items() if path.endswith("kernel"))
        given = arrays["lstm_0/lstm_cell/kernel"]
        rows = 4 * given.shape[1] * (config.books + bool(config.conditions))
        four = (count - given.size) // 2 + 4 * (count - given.size) // INT4_BLOCK + rows
        return {"int4": four} | Body.bytes_per_step(config, arrays)

    def context(self, given: str) -> str:
        return self._context_gates(given) if self.precision == "int4" else given

    def features(self, previous: str, context: str) -> str:
        if self.precision != "int4":
            return super().features(previous, context)
        self.previous = previous
        return self._int4_layers(previous, context)

    def _weights(self, layer: int, name: str, order: str) -> np.ndarray:
        return _gates(self.arrays[f"lstm_{layer}/lstm_cell/{name}"], order)

    def stack(self, x: str) -> str:
        body, config = self.body, self.config
        for i in range(config.core.layers):
            kernel, recurrent, bias = (self._weights(i, name, "iofc")
                                       for name in ("kernel", "recurrent_kernel", "bias"))
            bias = np.concatenate([bias, np.zeros_like(bias)])[None]
            before = f"body_h_{i}", f"body_c_{i}"
            after = ["", f"body_h_{i}_out", f"body_c_{i}_out"]
            if self.precision == "int8":
                (w, w_scale), (r, r_scale) = int8(kernel), int8(recurrent)
                scales = (w_scale[None], np.zeros(1, np.int8), r_scale[None], np.zeros(1, np.int8))
                body.node(
                    "DynamicQuantizeLSTM", x, w[None], r[None], bias, "", *before, "", *scales,
                    outputs=after, domain="com.microsoft", hidden_size=config.core.units,
                )
            else:
                body.node("LSTM", x, kernel.T[None], recurrent.T[None],
                          bias, "", *before, outputs=after,
                          hidden_size=config.core.units)
            x = after[1]
        return x

    def _int4_layers(self, previous: str, context: str) -> str:
        """In 4 bits are the recurrence, the layers above the first, and the logits. What the
        previous frame adds to the first layer's gates is looked up in float32, a table a book.
        """
        body, config, units = self.body, self.config, self.config.core.units
        first, bias = (self._weights(0, name, "ifoc") for name in ("kernel", "bias"))
        width, rows = config.core.embedding_dim, config.num_codes + 1
        embeddings = self.arrays["embedding/embeddings"]
        tables = [embeddings[k * rows : (k + 1) * rows] @ first[k * width : (k + 1) * width]
                  for k in range(config.books)]
        tables[0] = tables[0] + bias
        given = self._embed_sum(tables, previous)
        if config.context_channels:
            given = body("Add", given, context)
        x = None
        for i in range(config.core.layers):
            kernel, recurrent, bias = (self._weights(i, name, "ifoc")
                                       for name in ("kernel", "recurrent_kernel", "bias"))
            h, c = f"body_h_{i}_out", f"body_c_{i}_out"
            if x is None:
                gates = body("Add", given, int4_product(body, f"body_h_{i}", recurrent))
            else:
                both = body("Concat", x, f"body_h_{i}", axis=-1)
                gates = int4_product(body, both, np.concatenate([kernel, recurrent]), bias)
            ifo, new = body.split(gates, 3 * units, units)
            i_, f_, o_ = body.split(body("Sigmoid", ifo), units, units, units)
            added = body("Mul", i_, body("Tanh", new))
            body.node("Add", body("Mul", f_, f"body_c_{i}"), added, outputs=[c])
            body.node("Mul", o_, body("Tanh", c), outputs=[h])
            x = h
        return x

    def _embed_sum(self, tables: list[np.ndarray], previous: str) -> str:
        """[1, B, 4·units]: the rows of a frame's books, added up."""
        if len(tables) == 1:
            return self.body("Gather", tables[0], previous, axis=0)
        first = (np.arange(len(tables)) * len(tables[0])).astype(np.int32)
        rows = self.body("Gather", np.concatenate(tables),
                         self.body("Add", previous, first), axis=0)
        return self.body("ReduceSum", rows, np.array([2]), keepdims=0)

    def _context_gates(self, context: str) -> str:
        """What the context adds to the first layer's gates, for a whole chunk: float32 [n, B,
        4·units].

        One int8 product outside the loop. Each row has a scale of its own and integers add up
        exactly, so that a step's gates do not depend on the chunk it is in.
        """
        main, config = self.main, self.config
        kernel = self._weights(0, "kernel", "ifoc")[config.books * config.core.embedding_dim :]
        scale = np.maximum(np.abs(kernel).max(0), 1e-12).astype(np.float32) / 127
        largest = main("Max", main("ReduceMax", main("Abs", context), np.array([-1])),
                       np.array(1e-12, np.float32))
        unit, zero = np.array(1 / 127, np.float32), np.array(128, np.uint8)
        rows = main("QuantizeLinear", main("Div", context, largest), unit, zero)
        gates = main("MatMulIntegerToFloat", rows, np.round(kernel / scale).astype(np.int8),
                     unit, scale, zero,
                     domain="com.microsoft")
        return main("Mul", gates, largest)


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
    """The body of `nn.cores.TransformerStack`: each step writes one place of each layer's rings and
    attends to all of them. Only products with weights are in int8.
    """

    def stack(self, x: str) -> str:
        body, core = self.body, self.config.core
        place, far = self._places()
        x = self.layer("enter", x)
        for i in range(core.layers):
            mixed = self._attend(i, self.layer(f"qkv_{i}", self.norm(f"attention_norm_{i}", x)),
                                 place, far)
            x = body("Add", x, self.layer(f"attended_{i}", mixed))
            wide = self.layer(f"expand_{i}", self.norm(f"feed_norm_{i}", x))
            wide = body("FastGelu", wide, domain="com.microsoft")
            x = body("Add", x, self.layer(f"contract_{i}", wide))
        return self.norm("norm", x)

    def _places(self) -> tuple[str, str]:
        """Where in the rings this frame goes, int64 [1, B, heads, 4], and what is taken off the
        scores of what stands there and of the sinks, float32 [1, B, heads, window + sinks].
        """
        from onnx import TensorProto

        main, body, core = self.main, self.body, self.config.core
        window, heads = core.window, core.heads
        rows = main("Gather", main("Shape", "count"), np.array(0))
        row = main("Reshape", main("Range", np.array(0), rows, np.array(1)),
                   np.array([1, -1, 1, 1]))
        zeros = main("Mul", main("Add", row, np.zeros((1, 1, heads, 1), np.int64)), np.array(0))
        head = main("Add", zeros, np.arange(heads).reshape(1, 1, heads, 1))
        before = main("Concat", zeros, main("Add", zeros, row), head, axis=-1)
        count = body("Cast", "body_count", to=TensorProto.INT64)
        slot = body("Unsqueeze", body("Mod", count, np.array(window)), np.array([3]))
        place = body("Concat", before, body("Add", zeros, slot), axis=-1)
        # By count − slot; where that is negative the index counts from the end.
        ages = np.concatenate([np.arange(window), np.arange(window), np.full(window, FAR)])
        age = body("Gather", ages.astype(np.float32), body("Sub", count, np.arange(window)))
        slopes = 2.0 ** (-8.0 * np.arange(1, heads + 1) / heads)
        far = body("Mul", body("Unsqueeze", age, np.array([2])),
                   slopes.astype(np.float32)[:, None])
        if core.sinks:
            far = body("Pad", far, np.array([0] * 7 + [core.sinks]))
        more = body("Less", "body_count", np.array(2 * window - 1, np.float32))
        body.node("Where", more, body("Add", "body_count", np.array(1, np.float32)),
                  np.array(window, np.float32), outputs=["body_count_out"])
        return place, far

    def _attend(self, layer: int, qkv: str, place: str, far: str) -> str:
        """[1, B, 3·width] -> [1, B, width]."""
        body, core = self.body, self.config.core
        dim = core.width // core.heads
        query, *kept = body.split(qkv, core.width, core.width, core.width)
        query = body("Reshape", body("Mul", query, np.array(dim**-0.5, np.float32)),
                     np.array([0, 0, core.heads, dim, 1]))
        for name, one in zip(("keys", "values"), kept, strict=True):
            one = body("Reshape", one, np.array([0, 0, core.heads, dim]))
            ring = f"body_{name}_{layer}"
            body.node("ScatterND", ring, place, one, outputs=[f"{ring}_out"])
        scores = body("MatMul", f"body_keys_{layer}_out", query)
        if core.sinks:
            always = body("MatMul", self.arrays[f"sinks_{layer}/keys"], query)
            scores = body("Concat", scores, always, axis=3)
        scores = body("Sub", body("Squeeze", scores, np.array([4])), far)
        shares = body("Unsqueeze", body("Softmax", scores, axis=-1), np.array([3]))
        values = f"body_values_{layer}_out"
        if core.sinks:
            shares, always = body.split(shares, core.window, core.sinks)
            mixed = body("Add", body("MatMul", shares, values),
                         body("MatMul", always, self.arrays[f"sinks_{layer}/values"]))
        else:
            mixed = body("MatMul", shares, values)
        return body("Reshape", mixed, np.array([0, 0, core.width]))


class PixelCNNBody(Body):
    """The body of `nn.cores.PixelCNNStack` and `BooksOnGrid`: once a step through the vertical
    stack, and once for each book through the horizontal one.
    """

    def __init__(self, config, arrays, precision: str, main: Nodes, body: Nodes):
        super().__init__(config, arrays, precision, main, body)
        self.rows: list[list[str]] = [[] for _ in config.core.dilations]
        self.sliced: dict[tuple[str, int], np.ndarray] = {}

    @staticmethod
    def bytes_per_step(config, arrays: dict[str, np.ndarray]) -> dict[str, int]:
        """The horizontal stack's matrices are read for each book."""
        again = sum(a.size for path, a in arrays.items() if path.endswith("kernel")
                    and path.startswith(("across_", "mix_", "hidden"))) * (config.books - 1)
        once = Body.bytes_per_step(config, arrays)
        return {"int8": once["int8"] + again, "float32": once["float32"] + 4 * again}

    def features(self, previous: str, context: str) -> str:
        """[1, B, books, layers·2·channels]."""
        body, core, books = self.body, self.config.core, self.config.books
        self.previous = previous
        x = self.embed(self.arrays["embedding/embeddings"], previous)
        x = self.layer("enter", body("Reshape", x, np.array([0, 0, books, core.embedding_dim])))
        if self.config.context_channels:
            given = body("Reshape", self.layer("given", context),
                         np.array([0, 0, books, core.channels]))
            x = body("Add", x, given)
        side, features = core.kernel_books // 2, []
        beside = np.arange(books)[:, None] + np.arange(core.kernel_books)
        for i, dilation in enumerate(core.dilations):
            taps = self.queue(i, x, core.kernel_frames, dilation)
            taps = body("Pad", taps, np.array([0, 0, side, 0, 0, 0, side, 0]))
            taps = body("Reshape", body("Gather", taps, beside, axis=2),
                        np.array([0, 0, books, -1]))
            z = self.gated(self.layer(f"down_{i}", taps), core.channels)
            features.append(self.layer(f"link_{i}", z))
            x = body("Add", x, z)
        return body("Concat", *features, axis=-1)

    def logits(self, book: int, features: str, drawn: list[str]) -> str:
        body, core = self.body, self.config.core
        count = len(core.dilations)
        here = body("Gather", features, np.array(book), axis=2)
        links = body.split(here, *[2 * core.channels] * count) if count > 1 else [here]
        x = self.told(book, drawn) if book else ""
        for i, link in enumerate(links):
            if x:
                self.rows[i].append(x)
            # Outside the frame stand zeros, and so does the first book's input: they are left out.
            if row := self.rows[i][-(core.kernel_books // 2 + 1):]:
                link = body("Add", link, self._across(i, row))
            else:
                link = body("Add", link, self.arrays[f"across_{i}/bias"])
            z = self.layer(f"mix_{i}", self.gated(link, core.channels))
            x = body("Add", x, z) if x else z
        hidden = body("FastGelu", self.layer("hidden", x), domain="com.microsoft")
        return self._point(book, self._temper(f"logits_{book}" if book else "logits", hidden))

    def _across(self, layer: int, row: list[str]) -> str:
        """A layer's product with the last books of a frame, [1, B, channels] each."""
        path, width = f"across_{layer}/kernel", len(row) * self.config.core.channels
        kernel = self.sliced.setdefault((path, width), self.arrays[path][-width:])
        return self.dense(self.body("Concat", *row, axis=-1), kernel,
                          self.arrays[f"across_{layer}/bias"])


def _gates(array: np.ndarray, order: str) -> np.ndarray:
    """The last axis from Keras's gate order (input, forget, cell, output) to another, "iofc" being
    ONNX's.
    """
    parts = dict(zip("ifco", np.split(array, 4, axis=-1), strict=True))
    return np.concatenate([parts[gate] for gate in order], axis=-1)
