"""One step of the core of scores as nodes of an ONNX loop."""

import numpy as np

from ..generators import composer
from .body import Body
from .nodes import FLOAT, INT32, INT64, Nodes


class RollBody(Body):
    """The body of `composer_layer.RollStack`, in float32 because the network is small.

    Inside, planes are [1, B, channels, books].
    """

    int8 = False
    together = in_passes = True

    def __init__(self, config, arrays, precision: str, main: Nodes, body: Nodes):
        super().__init__(config, arrays, precision, main, body)
        self.mask = ""

    def features(self, previous: str, context: str) -> str:
        """[1, B, books, head_dim]."""
        body, core, books = self.body, self.config.core, self.config.books
        start = np.array(self.config.start_token, np.int32)
        previous = body("Where", body("Equal", previous, start), np.array(0, np.int32), previous)
        newest = body("Unsqueeze", body("Cast", previous, to=FLOAT), [2])
        rest = body("Slice", "body_past", [1], [core.memory], [2])
        body.node("Concat", rest, newest, outputs=["body_past_out"], axis=2)
        struck = self._flag("Greater", "body_past_out", composer.SOUNDING)
        sounds = self._flag("Greater", "body_past_out", composer.SILENT)
        strengths = body("Sub", "body_past_out", np.array(composer.SOUNDING, np.float32))
        strengths = body("Mul", body("Relu", strengths),
                         np.array(1 / composer.LOUDNESSES, np.float32))
        now = body("Gather", sounds, [core.memory - 1], axis=2)
        self._set_mask(now)
        x = self._planes(struck, strengths, sounds, now)
        x = body("Squeeze", x, [0])
        x = body("Transpose", self._convolve("enter", x), perm=[0, 2, 1])
        x = body("Reshape", x, [1, -1, core.units])
        state = [body("Reshape", f"body_{s}", [1, -1, core.units]) for s in "hc"]
        kernel, recurrent, bias = self.lstm_weights("lstm")
        body.node("LSTM", x, kernel.T[None], recurrent.T[None], bias, "", *state,
                  outputs=["", "flat_h", "flat_c"], hidden_size=core.units)
        for s in "hc":
            body.node("Reshape", f"flat_{s}", [1, -1, books, core.units], outputs=[f"body_{s}_out"])
        self._count_step()
        h = body("Reshape", "flat_h", [-1, books, core.units])
        mixed = self._convolve("mix", body("Transpose", h, perm=[0, 2, 1]))
        h = body("Add", h, body("Transpose", mixed, perm=[0, 2, 1]))
        return body("Unsqueeze", self.layer("state", h), [0])

    def logits(self, book: int, features: str, drawn: list[str]) -> str:
        body, books, below = self.body, self.config.books, self.config.core.below
        table = composer.loudness_table()
        flags = body("Squeeze", body("Gather", table, drawn[-1], axis=0), [0])
        kernel = self.arrays["across/kernel"]
        lower = body("Slice", body("Transpose", flags, perm=[0, 2, 1]), [0], [books - 1], [2])
        nearest = np.ascontiguousarray(kernel[: 3 * below].reshape(below, 3, -1).T)
        near = body("Conv", lower, nearest, pads=[below, 0])
        counts = body("CumSum", flags, 1, exclusive=1)
        all_lower = body("MatMul", counts, 0.25 * kernel[-3:])
        hidden = body("Add", all_lower, body("Transpose", near, perm=[0, 2, 1]))
        hidden = body("FastGelu", body("Add", features, hidden), domain="com.microsoft")
        return body("Add", self.output_layer("logits", hidden), self.mask)

    def _flag(self, kind: str, x: str, value: int) -> str:
        return self.body("Cast", self.body(kind, x, np.array(value, np.float32)), to=FLOAT)

    def _set_mask(self, sounds: str):
        """Set the mask of the logits, [1, B, books, codes], see `composer_layer.possible`."""
        body = self.body
        sounds = body("Transpose", sounds, perm=[0, 1, 3, 2])
        penalties = np.zeros(self.config.num_codes, np.float32)
        penalties[composer.SOUNDING] = -composer.IMPOSSIBLE
        always = penalties - composer.impossible(self.config.books)
        self.mask = body("Sub", body("Mul", sounds, penalties), always)

    def _planes(self, struck: str, strengths: str, sounds: str, now: str) -> str:
        """The inputs of all semitones, [1, B, planes, books]."""
        body, core, books = self.body, self.config.core, self.config.books
        ones = np.ones((1, 1, 1, books), np.float32)
        weights = np.ascontiguousarray(composer.averages(core.memory)[:, ::-1])
        rates, loudness = body("MatMul", weights, struck), body("MatMul", weights, strengths)
        density = body("Log", body("Add", body("ReduceSum", rates, [3]), np.array(1, np.float32)))
        ends = body("Gather", rates, [0, len(composer.AVERAGE_SECONDS) - 1], axis=2)
        of_class = body("MatMul", ends, composer.pitch_classes(books))
        band_one_hot = np.eye(books, dtype=np.float32)[None, None, books - composer.BANDS :]
        band_one_hot = body("Add", body("Mul", now, np.array(0, np.float32)), band_one_hot)
        height = (np.arange(books, dtype=np.float32) / books - 0.5)[None, None, None]
        height = body("Add", body("Mul", now, np.array(0, np.float32)), height)
        last = [body("Gather", x, [core.memory - 1 - age], axis=2)
                for age in range(composer.RECENT) for x in (struck, strengths)]
        attacks = body("Slice", last[0], [books - composer.BANDS],
                       [books], [3])
        attacks = body("Transpose", attacks, perm=[0, 1, 3, 2])
        follow, follow_loudness, similarity = self._matches(struck, strengths, sounds)
        count = body("Cast", "body_count", to=INT32)
        phase = body("Cast", body("Equal", count,
                                  np.arange(composer.STEPS_PER_BEAT, dtype=np.int32)), to=FLOAT)
        similarity, phase = (body("Unsqueeze", x, [3]) for x in (similarity, phase))
        return body("Concat", *last, now, rates, loudness, body("Mul", density, ones), of_class,
                    height, band_one_hot, follow, follow_loudness, body("Mul", follow, similarity),
                    *(body("Mul", x, ones) for x in (similarity, attacks, phase)), axis=2)

    def _matches(self, struck: str, strengths: str, sounds: str) -> tuple[str, str, str]:
        """`composer_layer.RollStack._matches`: (strikes and loudness [1, B, matches, books] each,
        similarity [1, B, matches]).
        """
        body, core = self.body, self.config.core
        before = body("Mul", self._later(struck, 1), np.array(composer.PREVIOUS_WEIGHT, np.float32))
        x = body("Add", body("Add", struck, before),
                 body("Mul", sounds, np.array(composer.SOUNDING_WEIGHT, np.float32)))
        recent = body("Slice", x, [core.memory - core.compared], [core.memory], [2])
        dots = body("MatMul", x, body("Transpose", recent, perm=[0, 1, 3, 2]))
        squares = body("ReduceSum", body("Mul", x, x), [3])
        dot_products = norms = ""
        for age in range(core.compared):
            products = body("Gather", dots, [core.compared - 1 - age], axis=3)
            products, older = self._later(products, age), self._later(squares, age)
            dot_products = body("Add", dot_products, products) if dot_products else products
            norms = body("Add", norms, older) if norms else older
        norms = body("Sqrt", norms)
        newest = body("Gather", norms, [core.memory - 1], axis=2)
        scale = body("Add", body("Mul", norms, newest), np.array(1e-3, np.float32))
        similarity = body("Squeeze", body("Div", dot_products, scale), [3])
        similarity = body("Slice", similarity, [core.compared],
                          [core.memory - composer.LEAST_AGE], [2])
        prefix = f"{body.prefix}matches"
        body.node("TopK", similarity, [core.matches], axis=-1,
                  outputs=[f"{prefix}_alike", f"{prefix}_places"])
        steps = body("Add", f"{prefix}_places", np.array(core.compared + 1, np.int64))
        steps = body("Expand", body("Unsqueeze", steps, [3]), [1, 1, 1, self.config.books])
        real = body("Unsqueeze", self._flag("Greater", f"{prefix}_alike", 0), [3])
        strikes, loudness = (body("Mul", body("GatherElements", x, steps, axis=2), real)
                             for x in (struck, strengths))
        return strikes, loudness, f"{prefix}_alike"

    def _later(self, x: str, steps: int) -> str:
        """[1, B, memory, n] some steps later, zeros first."""
        if not steps:
            return x
        padded = self.body("Pad", x, [0, 0, steps, 0, 0, 0, 0, 0])
        return self.body("Slice", padded, [0], [self.config.core.memory], [2])

    def _convolve(self, name: str, x: str) -> str:
        """A convolution over semitones and its activation, [B, channels, books]."""
        kernel = np.ascontiguousarray(self.arrays[f"{name}/kernel"].transpose(2, 1, 0))
        half_width = composer.KERNEL_SEMITONES // 2
        x = self.body("Conv", x, kernel, self.arrays[f"{name}/bias"], pads=[half_width, half_width])
        return self.body("FastGelu", x, domain="com.microsoft")

    def _count_step(self):
        """Advance the position of the step in its beat."""
        body = self.body
        count = body("Add", body("Cast", "body_count", to=INT64), 1)
        body.node("Cast", body("Mod", count, composer.STEPS_PER_BEAT), outputs=["body_count_out"],
                  to=FLOAT)
