"""The core of scores: P(step_t | step_<t), with the same weights for all semitones."""

import keras
import numpy as np
from keras import layers, ops

from ..codecs.blocks_layer import built, dense, gelu
from ..levels.kinds import layer_for
from . import composer
from .composer import RollCore
from .cores_layer import Core
from .generator import GeneratorConfig
from .lstm_layer import LSTM


def planes(matches: int) -> int:
    """The number of inputs of each semitone, see `join_planes`."""
    return (2 * composer.RECENT + 1 + 3 * len(composer.AVERAGE_SECONDS) + 2 + 1
            + 2 * composer.BANDS + 4 * matches + composer.STEPS_PER_BEAT)


@layer_for(RollCore)
class RollStack(Core):
    """The core of kind `roll`.

    The inputs of a semitone are those of `join_planes`. A convolution over semitones, an LSTM over
    steps and a second convolution give its features. Its code depends on these features, and on the
    codes of the semitones below. The last books are the bands of attacks.
    """

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
        sounds = ops.cast(before > composer.SILENT, "float32")
        mask = possible(sounds)
        if training and self.config.core.input_dropout:
            numbers = keras.random.uniform(ops.shape(before), seed=self.seeds)
            before = ops.where(numbers < self.config.core.input_dropout, composer.SILENT, before)
            sounds = ops.cast(before > composer.SILENT, "float32")
        struck, strengths = (ops.take(composer.loudness_table()[:, k], before) for k in (1, 2))
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
        lower = lower_codes(current, self.config.core.below)
        hidden = gelu(features + self.across(ops.cast(lower, features.dtype)))
        logits = self.draws(self.dropout(hidden, training=training))
        return logits + mask

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
        past, h, c, count = state
        core, books = self.config.core, self.config.books
        previous = ops.where(previous == self.config.start_token, composer.SILENT, previous)
        past = ops.concatenate([past[:, 1:], ops.cast(previous, "float32")[:, None]], axis=1)
        table, codes = composer.loudness_table(), ops.cast(past, "int32")
        sounds, struck, strengths = (ops.take(table[:, k], codes) for k in range(3))
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
        features = self.state(x + gelu(self.mix(x)))
        codes: list = []
        masks = possible(sounds[:, -1])
        for k in range(books):
            lower = ops.stack(codes, axis=-1) if codes else ops.zeros_like(previous[:, :0])
            lower = lower_codes(ops.pad(lower, [[0, 0], [0, books - k]]), core.below)[:, k]
            hidden = gelu(features[:, k] + self.across(ops.cast(lower, features.dtype)))
            codes.append(draw(k, self.draws(hidden) + masks[:, k]))
        count = (count + 1) % composer.STEPS_PER_BEAT
        shape = (-1, books, core.units)
        return ops.stack(codes, axis=-1), [past, ops.reshape(h, shape), ops.reshape(c, shape),
                                           count]


def _later(x):
    """[..., T, books] one step later, zeros first."""
    return ops.pad(x, [*[[0, 0]] * (len(x.shape) - 2), [1, 0], [0, 0]])[..., :-1, :]


def possible(sounds):
    """The mask of the logits [..., books, codes]: only a sounding semitone may keep sounding."""
    sustained = ops.one_hot(composer.SOUNDING, composer.STRUCK + composer.LOUDNESSES,
                            dtype="float32")
    return (composer.impossible(sounds.shape[-1])
            + composer.IMPOSSIBLE * (1 - sounds)[..., None] * sustained)


def join_planes(own: list, rates: list, loudness: list, follow, alike, phase):
    """The inputs of each semitone, [..., books, planes].

    own: the last steps, [..., books] each. rates, loudness: averages of strikes and of their
    loudness, [..., books] each. follow: [..., books, 2·matches], and alike: [..., matches], see
    `_matches`. phase: [..., steps per beat].
    """
    books = rates[0].shape[-1]
    classes = composer.pitch_classes(books)
    densities = [ops.broadcast_to(ops.log1p(ops.sum(rate, axis=-1, keepdims=True)),
                                  ops.shape(rate)) for rate in rates]
    of_class = [ops.matmul(rate, classes) for rate in (rates[0], rates[-1])]
    height = ops.zeros_like(rates[0]) + (np.arange(books, dtype="float32") / books - 0.5)
    attacks = own[0][..., books - composer.BANDS :]
    shared = ops.concatenate([alike, attacks, phase], axis=-1)[..., None, :]
    shared = ops.broadcast_to(shared, (*ops.shape(rates[0]), shared.shape[-1]))
    which = np.eye(books, dtype="float32")[:, books - composer.BANDS :]
    which = ops.broadcast_to(which, (*ops.shape(rates[0]), composer.BANDS))
    each = ops.stack([*own, *rates, *loudness, *densities, *of_class, height], axis=-1)
    each = ops.concatenate([each, which], axis=-1)
    strikes = follow[..., : alike.shape[-1]]
    return ops.concatenate([each, follow, strikes * alike[..., None, :], shared], axis=-1)


def lower_codes(codes, below: int):
    """The inputs of each semitone from lower semitones of the same step: codes int [..., books] ->
    float32 [..., books, 3·below + 3]. For each of the next `below` lower semitones, nearest last:
    its row of `composer.loudness_table`. Then a quarter of the sums of all lower ones.
    """
    flags = ops.take(composer.loudness_table(), ops.cast(codes, "int32"), axis=0)
    ahead = [[0, 0]] * (len(flags.shape) - 2)
    books = flags.shape[-2]
    padded = ops.pad(flags, [*ahead, [below, 0], [0, 0]])
    near = ops.concatenate([padded[..., k : k + books, :] for k in range(below)], axis=-1)
    counts = ops.pad(ops.cumsum(flags, axis=-2), [*ahead, [1, 0], [0, 0]])[..., :-1, :]
    return ops.concatenate([near, 0.25 * counts], axis=-1)
