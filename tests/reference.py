"""The models in Keras, with the interface of `play/engine.py`: what the graphs are held against.

Both loops divide the logits by the temperature, then apply top-k, then top-p to the codes that
remain. The inverse of the cumulative distribution, in the order of the codes, draws the code.
"""

import keras
import numpy as np
from keras import ops

from vqwave.codecs.codec_layer import load_codec
from vqwave.generators.generator_layer import load_generator
from vqwave.play import engine


def keep_likeliest(scaled, top_k, top_p):
    """Logits float32 [..., codes], divided by the temperature, with -inf for each code left out.

    top_k keeps the k likeliest codes (0: all). Ties go to the lower code. top_p then keeps the
    fewest likeliest codes that have at least this share of their probability (1: all).
    """
    num_codes = scaled.shape[-1]
    ranked, order = ops.top_k(scaled, num_codes)  # ties go to the lower index
    within_k = ops.arange(num_codes) < ops.cast(ops.where(top_k > 0, top_k, num_codes), "int32")
    weights = ops.where(within_k, ops.exp(ranked - ranked[..., :1]), 0.0)
    reached = ops.cumsum(weights, axis=-1)
    before = ops.concatenate([ops.zeros_like(reached[..., :1]), reached[..., :-1]], axis=-1)
    share = ops.where(top_p < 1, top_p, 2.0)
    keep = ops.logical_and(within_k, before < share * reached[..., -1:])
    likeliest = ops.where(keep, ranked, -float("inf"))
    return ops.take_along_axis(likeliest, ops.argsort(order, axis=-1), axis=-1)


def pick(weights, u):
    """The first code whose cumulative sum exceeds u times the total: float32 [..., codes], [...] in
    [0, 1) -> int32 [...].

    `weights` need no normalising. In float32 u times the last sum is less than that sum (u is at
    most 1 - 2^-24), so there is such a code, and its probability is not 0.
    """
    reached = ops.cumsum(weights, axis=-1)
    return ops.sum(ops.cast(reached <= reached[..., -1:] * u[..., None], "int32"), axis=-1)


class KerasLoop(keras.Model):
    """Samples a chunk in one `ops.while_loop`, float32.

    `predict_on_batch` takes a dict: uniforms [n, B, books], context [n, B, C] (none at the top),
    previous int32 [B, books], forced int32 [n, B, books] (-1: sample), bias [books, codes],
    inverse_temperature, top_k int64 and top_p (each [1]), state: a list as the core's `states`
    names it. Returns (codes int32 [n, B, books], log_probs of that shape, state). top_k and top_p
    are ignored without `with_filter`. guided: the context and the state have 2·B rows, first with
    labels, then without, and guidance ([1]) is an input.
    """

    def __init__(self, generator, with_filter: bool, guided: bool = False):
        super().__init__(name="sampling")
        self.generator, self.with_filter, self.guided = generator, with_filter, guided
        self.built = True
        self.compile(jit_compile=False)

    def call(self, inputs):
        us, forced = inputs["uniforms"], inputs["forced"]
        context = inputs.get("context")
        steps = ops.shape(us)[0]
        rows = ops.reshape(ops.arange(steps), (-1, 1, 1))

        def body(i, previous, codes, log_probs, *state):
            frame_context = None if context is None else ops.take(context, i, axis=0)
            u, prescribed, chosen = ops.take(us, i, axis=0), ops.take(forced, i, axis=0), []

            def draw(book, logits):
                if self.guided:
                    with_labels, without = ops.split(logits, 2)
                    logits = without + inputs["guidance"] * (with_labels - without)
                scaled = (logits + inputs["bias"][book]) * inputs["inverse_temperature"]
                if self.with_filter:
                    scaled = keep_likeliest(scaled, inputs["top_k"], inputs["top_p"])
                drawn = pick(ops.softmax(scaled), u[:, book])
                code = ops.where(prescribed[:, book] < 0, drawn, prescribed[:, book])
                chosen.append(ops.take_along_axis(ops.log_softmax(scaled),
                                                  code[:, None], axis=-1)[:, 0])
                return ops.concatenate([code, code]) if self.guided else code

            frames = ops.concatenate([previous, previous]) if self.guided else previous
            core, options = self.generator.core, {}
            if core.config.core.performs:
                options["uniforms"] = ops.concatenate([u, u]) if self.guided else u
            frame, state = core.step(frames, frame_context, list(state), draw, **options)
            if self.guided:
                frame = ops.split(frame, 2)[0]
            codes = ops.where(rows == i, frame, codes)
            log_probs = ops.where(rows == i, ops.stack(chosen, axis=-1), log_probs)
            return i + 1, frame, codes, log_probs, *state

        first = (0, inputs["previous"], ops.zeros_like(us, dtype="int32"), ops.zeros_like(us))
        _, _, codes, log_probs, *state = ops.while_loop(lambda i, *_: i < steps, body,
                                                        (*first, *inputs["state"]))
        return codes, log_probs, state


def _runnable(model):
    """Run the model as a graph without XLA, which compiles for minutes at each new length."""
    model.compile(jit_compile=False)
    return model


class KerasCodec(engine.CodecEngine):
    """A `CodecEngine` that runs in Keras."""

    def __init__(self, weight_set):
        super().__init__(weight_set)
        self.splits, self._codec = False, load_codec(weight_set)
        self._models = {kind: _runnable(getattr(self._codec, f"{kind}_model")())
                        for kind in ("encode", "decode")}

    def _fact(self, kind, key):
        return getattr(self._codec, key)

    def _run(self, kind, *inputs):
        return [np.asarray(self._models[kind].predict_on_batch(
            [*inputs] if len(inputs) > 1 else inputs[0]))]


class KerasGenerator(engine.GeneratorEngine):
    """A `GeneratorEngine` that runs in Keras."""

    def __init__(self, weight_set):
        super().__init__(weight_set, "onnx-float32")
        self._generator, self._loops = load_generator(weight_set), {}
        if self.config.conditions:
            self._context = _runnable(self._generator.context_model())

    def context(self, inputs):
        inputs = [np.asarray(inputs[c.input], c.dtype) for c in self.config.conditions]
        return np.asarray(self._context.predict_on_batch(inputs if len(inputs) > 1 else inputs[0]))

    def _loop(self, feeds, state, full):
        kind = full and bool(feeds["top_k"] or feeds["top_p"] < 1), "guidance" in feeds
        if kind not in self._loops:
            self._loops[kind] = KerasLoop(self._generator, *kind)
        feeds.setdefault("forced", np.full(feeds["uniforms"].shape, -1, np.int32))
        feeds.setdefault("bias", np.zeros((self.config.books, self.config.num_codes), np.float32))
        # Keras wants a batch axis on every input.
        for name in ("inverse_temperature", "top_k", "top_p", "guidance"):
            if name in feeds:
                feeds[name] = feeds[name].reshape(1)
        codes, log_probs, state = self._loops[kind].predict_on_batch(feeds | {"state": state})
        return codes, log_probs, list(state)


def codec(weight_set, name):
    """The engine `name` of a codec, one of `engine.ENGINES` or "keras"."""
    return KerasCodec(weight_set) if name == "keras" else engine.CodecEngine(weight_set, name)


def generator(weight_set, name):
    """The engine `name` of a generator, one of `engine.ENGINES` or "keras"."""
    return KerasGenerator(weight_set) if name == "keras" else engine.GeneratorEngine(weight_set, name)
