"""One step of each kind of core, as nodes of an ONNX loop."""

from typing import Any

import numpy as np

from ..generators.family.transformer import HIDDEN_DISTANCE
from ..generators.performer import VECTOR_SCALE
from .body import Body
from .nodes import INT64, Nodes, int8
from .roll import RollBody


class LSTMBody(Body):
    """The body of `LSTMStack`."""

    def stack(self, x: str) -> str:
        body, units = self.body, self.config.core.units
        for i in range(self.config.core.layers):
            kernel, recurrent, bias = self.lstm_weights(f"lstm_{i}")
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
    """The body of `WaveNetStack`."""

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
    """The body of `TransformerStack`: each step writes one slot of each layer's rings of
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
    """The body of `PixelCNNStack` and `GridHeads`: a step runs the vertical stack once,
    and the horizontal stack once for each book.
    """

    def __init__(self, config, arrays, precision: str, main: Nodes, body: Nodes):
        super().__init__(config, arrays, precision, main, body)
        self.row_inputs: list[list[str]] = [[] for _ in config.core.dilations]
        self.kernel_slices: dict[tuple[str, int], np.ndarray] = {}

    def features(self, previous: str, context: str) -> str:
        """[1, B, books, layers·2·channels]."""
        body, core, books = self.body, self.config.core, self.config.books
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
        return self.output_layer(f"logits_{book}" if book else "logits", hidden)

    def _across(self, layer: int, row: list[str]) -> str:
        """A layer's convolution over the last books of a frame, [1, B, channels] each."""
        path, width = f"across_{layer}/kernel", len(row) * self.config.core.channels
        kernel = self.kernel_slices.setdefault((path, width), self.arrays[path][-width:])
        return self.dense(self.body("Concat", *row, axis=-1), kernel,
                          self.arrays[f"across_{layer}/bias"])


class FramesBody(Body):
    """The body of `FramesStack`; int8 would gain 2 to 4 % of a chain's speed."""

    int8 = False
    together = True

    def features(self, previous: str, context: str) -> str:
        body, core, books = self.body, self.config.core, self.config.books
        draws = body("Sub", self.uniforms, np.array(0.5, np.float32))
        draws = body("Mul", draws, core.draw_scale(books))
        kept = body("Mul", "body_noise", core.kept(books))
        body.node("Add", kept, draws, outputs=["body_noise_out"])
        x = body("Concat", context, "body_noise_out", axis=-1)
        return body("FastGelu", self.layer("hidden", x), domain="com.microsoft")

    def logits(self, book: int, features: str, drawn: list[str]) -> str:
        """The logits, without the squares of the vectors, which are equal for all codes."""
        body, books = self.body, self.config.books
        codebook, weight = (self.arrays[f"nearest/{x}"] for x in ("codebook", "weight"))
        kernel = 2 * VECTOR_SCALE * weight[:, None, None] * codebook.transpose(0, 2, 1)
        bias = -weight[:, None] * (codebook**2).sum(-1)
        vectors = body("Reshape", self.layer("vectors", features), [0, 0, books, -1])
        products = body("MatMul", body("Transpose", vectors, perm=[0, 2, 1, 3]), kernel)
        logits = body("Add", body("Transpose", products, perm=[0, 2, 1, 3]), bias)
        return body("Mul", logits, "inverse_temperature")


BODIES: dict[str, Any] = {"lstm": LSTMBody, "wavenet": WaveNetBody, "transformer": TransformerBody,
                          "pixelcnn": PixelCNNBody, "frames": FramesBody, "roll": RollBody}
"""The body of each kind of core: a class with the methods of `body.Body`."""
