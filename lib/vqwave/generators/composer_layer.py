"""The core of scores: P(step_t | step_<t), with the same weights for all semitones."""

import keras
import numpy as np
from keras import layers, ops

from ..codecs.blocks_layer import built, dense, gelu
from ..levels.kinds import layer_for
from . import composer
from .composer import ComposerCore
from .cores_layer import Core
from .generator import GeneratorConfig
from .lstm_layer import LSTM


def planes(matches: int) -> int:
    """The number of inputs of each semitone, see `join_planes`."""
    return (2 * composer.RECENT + 1 + 3 * len(composer.AVERAGE_SECONDS) + 2 + 1
            + 2 * composer.BANDS + 4 * matches + composer.STEPS_PER_BEAT)


@layer_for(ComposerCore)
class Composer(Core):
    """The composer: the core of kind `roll`.

    The inputs of a semitone are those of `join_planes`. A convolution over semitones, an LSTM over
    steps and a second convolution give its features. Its code depends on these features, and on the
    codes of the semitones below. The last books are the bands of attacks.
    """

    jacobi = True

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(config, **kwargs)
        core = config.core
        units, hidden = core.units, core.head_dim
        self.enter = built(layers.Conv1D(units, composer.KERNEL_SEMITONES, padding="same",
                                         name="enter"), planes(core.matches))
        self.lstm = built(LSTM(units, return_sequences=True, name="lstm"), units)
        self.mix = built(layers.Conv1D(units, composer.KERNEL_SEMITONES, padding="same",
                                       name="mix"), units)
        self.state = dense(units, hidden, "state")
        self.across = built(layers.Dense(hidden, use_bias=False, name="across"), 3 * core.below + 3)
        bias = keras.initializers.Constant([3.0, 0.0, *[-1.0] * composer.LOUDNESSES])
        self.draws = built(layers.Dense(config.num_codes, dtype="float32", name="logits",
                                        bias_initializer=bias), hidden)
        self.dropout = layers.Dropout(core.dropout, name="dropout")
        self.seeds = keras.random.SeedGenerator()
        self.weights_of_past = composer.averages(core.memory)
        self.built = True

    def call(self, previous, context=None, current=None, training=False):
        """Teacher-forced logits float32 [batch, T, books, codes]; see `Core.call`."""
        before = ops.where(previous == self.config.start_token, composer.SILENT, previous)
        mask = possible(flags_of(before)[0])
        if training and self.config.core.input_dropout:
            numbers = keras.random.uniform(ops.shape(before), seed=self.seeds)
            before = ops.where(numbers < self.config.core.input_dropout, composer.SILENT, before)
        sounds, struck, strengths = flags_of(before)
        batch, steps, books = ops.shape(previous)
        ages = ops.arange(steps)[:, None] - ops.arange(steps)[None]
        inside = (ages >= 0) & (ages < self.config.core.memory)
        weights = ops.take(self.weights_of_past, ops.clip(ages, 0, self.config.core.memory - 1),
                           axis=1) * ops.cast(inside, "float32")
        rates, loudness = ([ops.matmul(weights[i], x) for i in range(len(composer.AVERAGE_SECONDS))]
                        for x in (struck, strengths))
        recent = [struck, strengths]
        for _ in range(composer.RECENT - 1):
            recent += [_later(x) for x in recent[-2:]]
        follow, alike = self._matches(struck, strengths, sounds, ages)
        phases = ops.one_hot(ops.arange(steps) % composer.STEPS_PER_BEAT, composer.STEPS_PER_BEAT,
                             dtype="float32")
        phases = ops.broadcast_to(phases, (batch, steps, composer.STEPS_PER_BEAT))
        x = join_planes([*recent, sounds], rates, loudness, follow, alike, phases)
        units = self.config.core.units
        x = ops.reshape(x, (-1, books, planes(self.config.core.matches)))
        x = self.dropout(gelu(self.enter(x)), training=training)
        x = ops.transpose(ops.reshape(x, (-1, steps, books, units)), (0, 2, 1, 3))
        x = self.lstm(ops.reshape(x, (-1, steps, units)))
        x = ops.transpose(ops.reshape(x, (-1, books, steps, units)), (0, 2, 1, 3))
        x = self.dropout(ops.reshape(x, (-1, books, units)), training=training)
        features = self.state(x + gelu(self.mix(x)))
        features = ops.reshape(features, (-1, steps, books, self.config.core.head_dim))
        return self.frame_logits((features, mask), current, training)

    def frame_logits(self, features, codes, training=False):
        """The logits of all books of a frame, float32 [..., books, codes].

        features: (of each semitone [..., books, head_dim], the mask). codes: int32 [..., books],
        the frame, of which the logits of a book depend on the books below.
        """
        x, mask = features
        hidden = gelu(x + self._from_lower(codes, x))
        return self.draws(self.dropout(hidden, training=training)) + mask

    def _from_lower(self, codes, x):
        """What each semitone takes from lower ones of its step: [..., books, c], as x. It is a
        convolution over `flags_of` the next `below` semitones. A product with a quarter of the sums
        of all lower ones is added.
        """
        below, books = self.config.core.below, self.config.books
        kernel = ops.cast(ops.convert_to_tensor(self.across.kernel), x.dtype)
        flags = ops.cast(ops.stack(flags_of(codes), axis=-1), x.dtype)
        flags = ops.pad(ops.reshape(flags, (-1, books, 3))[:, :-1], [[0, 0], [below, 0], [0, 0]])
        near = ops.conv(flags, ops.reshape(kernel[:-3], (below, 3, -1)), padding="valid")
        counts = ops.cumsum(flags, axis=1)[:, below - 1 :]
        return ops.reshape(near + ops.matmul(counts, 0.25 * kernel[-3:]), ops.shape(x))

    def _matches(self, struck, strengths, sounds, ages):
        """The strikes that followed the most similar earlier steps: (strikes and their loudness
        [batch, T, books, 2·matches], similarity [batch, T, matches]).
        """
        core = self.config.core
        x = struck + composer.PREVIOUS_WEIGHT * _later(struck) + composer.SOUNDING_WEIGHT * sounds
        dots = ops.matmul(x, ops.swapaxes(x, 1, 2))
        total = dots
        for _ in range(core.compared - 1):
            dots = ops.pad(dots, [[0, 0], [1, 0], [1, 0]])[:, :-1, :-1]
            total = total + dots
        own = ops.sqrt(ops.diagonal(total, axis1=1, axis2=2))
        alike = total / (own[:, :, None] * own[:, None] + 1e-3)
        allowed = (ages >= composer.LEAST_AGE) & (ages < core.memory - core.compared)
        alike, places = ops.top_k(ops.where(allowed, alike, 0.0), core.matches)
        places = ops.reshape(places, (ops.shape(places)[0], -1))
        followed = []
        for x in (struck, strengths):
            after = ops.pad(x[:, 1:], [[0, 0], [0, 1], [0, 0]])
            follow = ops.take_along_axis(after, places[..., None], axis=1)
            follow = ops.reshape(follow, (*ops.shape(alike), ops.shape(struck)[-1]))
            followed.append(follow * ops.cast(alike > 0, "float32")[..., None])
        return ops.transpose(ops.concatenate(followed, axis=2), (0, 1, 3, 2)), alike

    def step(self, previous, context, state, draw):
        """One step, for sampling; see `Core.step`."""
        features, state = self.advance(previous, state)
        codes = [ops.zeros_like(previous[:, 0])] * self.config.books
        for k in range(self.config.books):
            logits = self.frame_logits(features, ops.stack(codes, axis=-1))
            codes[k] = draw(k, logits[:, k])
        return ops.stack(codes, axis=-1), state

    def advance(self, previous, state):
        """The features of a step for `frame_logits`, and the new state; see `Core.step`."""
        past, h, c, count = state
        core, books = self.config.core, self.config.books
        previous = ops.where(ops.equal(previous, self.config.start_token), composer.SILENT,
                             previous)
        past = ops.concatenate([past[:, 1:], ops.cast(previous, "float32")[:, None]], axis=1)
        sounds, struck, strengths = flags_of(past)
        weights = self.weights_of_past[:, ::-1].copy()
        rates, loudness = (ops.unstack(ops.matmul(weights, x), axis=1) for x in (struck, strengths))
        x = struck + composer.PREVIOUS_WEIGHT * _later(struck) + composer.SOUNDING_WEIGHT * sounds
        dots = ops.matmul(x, ops.swapaxes(x[:, -core.compared :], 1, 2))
        squares = ops.sum(x * x, axis=-1)
        total, own = 0.0, 0.0
        for age in range(core.compared):
            total = total + ops.pad(dots[..., core.compared - 1 - age], [[0, 0], [age, 0]])[
                :, : core.memory]
            own = own + ops.pad(squares, [[0, 0], [age, 0]])[:, : core.memory]
        own = ops.sqrt(own)
        alike = total / (own[:, -1:] * own + 1e-3)
        last = core.memory - composer.LEAST_AGE
        alike = ops.pad(alike[:, core.compared : last], [[0, 0], [core.compared, 0]])
        alike, places = ops.top_k(alike, core.matches)
        follow = ops.concatenate([ops.take_along_axis(x, places[..., None] + 1, axis=1)
                                  * ops.cast(alike > 0, "float32")[..., None]
                                  for x in (struck, strengths)], axis=1)
        phase = ops.one_hot(ops.cast(count[:, 0], "int32"), composer.STEPS_PER_BEAT,
                            dtype="float32")
        recent = [x[:, -1 - age] for age in range(composer.RECENT) for x in (struck, strengths)]
        follow = ops.swapaxes(follow, 1, 2)
        x = join_planes([*recent, sounds[:, -1]], rates, loudness, follow, alike, phase)
        x = gelu(self.enter(x))
        flat, (h, c) = self.lstm.cell(ops.reshape(x, (-1, core.units)),
                                      [ops.reshape(s, (-1, core.units)) for s in (h, c)])
        x = ops.reshape(flat, ops.shape(x))
        features = self.state(x + gelu(self.mix(x))), possible(sounds[:, -1])
        count = (count + 1) % composer.STEPS_PER_BEAT
        shape = (-1, books, core.units)
        return features, [past, ops.reshape(h, shape), ops.reshape(c, shape), count]


def flags_of(codes):
    """For each code: whether the semitone sounds, whether it is struck, and the loudness of a
    strike, above 0 to 1: float32, of the shape of `codes` each.
    """
    codes = ops.cast(codes, "float32")
    return (ops.cast(codes > composer.SILENT, "float32"),
            ops.cast(codes > composer.SOUNDING, "float32"),
            ops.relu(codes - composer.SOUNDING) / composer.LOUDNESSES)


def _later(x):
    """[..., T, books] one step later, zeros first."""
    return ops.pad(x, [*[[0, 0]] * (len(x.shape) - 2), [1, 0], [0, 0]])[..., :-1, :]


def possible(sounds):
    """The mask of the logits [..., books, codes]: only a sounding semitone may keep sounding."""
    sustained = ops.one_hot(composer.SOUNDING, composer.STRUCK + composer.LOUDNESSES,
                            dtype="float32")
    return (composer.IMPOSSIBLE * (1 - sounds)[..., None] * sustained
            + composer.impossible(sounds.shape[-1]))


def join_planes(own: list, rates: list, loudness: list, follow, alike, phase):
    """The inputs of each semitone, [..., books, planes].

    own: the last steps, [..., books] each. rates, loudness: averages of strikes and of their
    loudness, [..., books] each. follow: [..., books, 2·matches], and alike: [..., matches], see
    `_matches`. phase: [..., steps per beat].
    """
    books = rates[0].shape[-1]
    classes = composer.same_pitch_class(books)
    zeros = ops.zeros_like(rates[0])
    densities = [zeros + ops.log1p(ops.sum(rate, axis=-1, keepdims=True)) for rate in rates]
    of_class = [ops.matmul(rate, classes) for rate in (rates[0], rates[-1])]
    height = zeros + (np.arange(books, dtype="float32") / books - 0.5)
    attacks = own[0][..., books - composer.BANDS :]
    shared = zeros[..., None] + ops.concatenate([alike, attacks, phase], axis=-1)[..., None, :]
    which = zeros[..., None] + np.eye(books, dtype="float32")[:, books - composer.BANDS :]
    each = ops.stack([*own, *rates, *loudness, *densities, *of_class, height], axis=-1)
    each = ops.concatenate([each, which], axis=-1)
    strikes = follow[..., : alike.shape[-1]]
    return ops.concatenate([each, follow, strikes * alike[..., None, :], shared], axis=-1)
