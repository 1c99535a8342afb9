"""The generator of one level: P(frame_t | frame_<t, context), conditions and a core.

The conditions process whole windows; `join` puts their outputs side by side, as the core's context.
When music is generated, the core runs step by step.
"""

import contextlib

import keras
import numpy as np
from keras import ops

from ..data import form
from ..io import weights
from ..levels.kinds import layer_of
from .generator import GeneratorConfig
from .performer_layer import Critic


def join(outputs: list):
    """Outputs of conditions, float32 [batch, T or 1, channels] each -> [batch, T or 1, Σ channels].
    """
    if len(outputs) == 1:
        return outputs[0]
    long = next((x for x in outputs if x.shape[1] != 1), outputs[0])
    return ops.concatenate([x if x.shape[1] != 1 else x + ops.zeros_like(long[..., :1])
                            for x in outputs], axis=-1)


class Generator(keras.Model):
    """Teacher-forced model of one level, trained by plain `fit`.

    call({"previous": int32 [batch, T, books], "current": int32 [batch, T, books], and each
    condition's input by name}) -> logits float32 [batch, T, books, num_codes]. With one book there
    is no "current". The level above is "source", int32 [batch, T / ratio + 2·halo, books above].

    corpus: what a score takes from the training scores, see `form.of_scores`.
    """

    def __init__(self, config: GeneratorConfig, **kwargs):
        super().__init__(name=config.name, **kwargs)
        self.config = config
        self.core = layer_of(config.core)(config)
        self.conditions = {}
        for condition in config.conditions:
            # Variables are saved by path. The condition `source` has no prefix in its paths.
            scope = (contextlib.nullcontext() if condition is config.source
                     else keras.name_scope(condition.input))
            with scope:
                self.conditions[condition.input] = layer_of(condition)(condition, config)
        self.corpus = form.of_scores([])
        self.critic, self.term_metrics = None, {}
        if config.core.performs and config.core.adversary:
            self.critic = Critic(config)
            self.term_metrics = {name: keras.metrics.Mean(name=name) for name in
                                 ("discriminator", "adversarial", "feature_matching", "won")}
        self.built = True

    @property
    def parts(self) -> dict[str, list | dict]:
        """The variables, or arrays by path, of each file of a weights set, by part name."""
        parts: dict[str, list | dict] = {"generator": self.core.weights}
        if self.config.core.learns == "scores":
            parts["corpus"] = self.corpus
        if self.conditions:
            parts["context"] = [v for condition in self.conditions.values()
                                for v in condition.weights]
        return parts

    def call(self, inputs, training=False):
        previous, context = inputs["previous"], None
        if self.conditions:
            context = self.last_context = self.context(inputs, training)
            if context.shape[1] == 1:
                context = ops.repeat(context, ops.shape(previous)[1], axis=1)
        return self.core(previous, context, inputs.get("current"), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """The loss of `compile`; in training, a performer's also has the terms of its critic."""
        total = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self.critic is None or not training:
            return total
        core = self.config.core
        terms = self.critic.losses_of(self.core, y, y_pred, self.last_context)
        for name, metric in self.term_metrics.items():
            metric.update_state(terms[name])
        return (total + terms["discriminator"] + core.adversary * terms["adversarial"]
                + core.feature_matching * terms["feature_matching"])

    def evaluate(self, *args, **kwargs) -> dict:
        """Metrics by name, without those of the critic, which is used in training only."""
        results = super().evaluate(*args, **(kwargs | {"return_dict": True}))
        return {name: value for name, value in results.items() if name not in self.term_metrics}

    @property
    def select_last(self) -> bool:
        """Whether the newest weights count as the best. The validation loss does not measure what
        the labels of parts have learned, and prefers a mean to a performance.
        """
        return self.config.learns_parts or self.critic is not None

    def context(self, inputs, training=False):
        """The conditions' inputs by name -> [batch, T or 1, context_channels], see `join`."""
        return join([condition(inputs[name], training=training)
                     for name, condition in self.conditions.items()])

    def context_model(self) -> keras.Model:
        """Functional model of `context`: the conditions' inputs in order -> context."""
        inputs = [keras.Input(c.shape, dtype=c.dtype, name=c.input) for c in self.config.conditions]
        context = self.context({x.name: x for x in inputs})
        return keras.Model(inputs if len(inputs) > 1 else inputs[0], context, name="context")


def load_generator(weight_set: weights.WeightSet) -> Generator:
    """The Keras `Generator` with trained weights."""
    model = Generator(weight_set.config)
    take_weights(model, weight_set)
    return model


def take_weights(model: Generator, weight_set: weights.WeightSet):
    """Load trained weights into a model of the same shapes. A model with labels also takes weights
    without labels; the labels then have no effect until they are trained. New labels start with the
    vector of no label.
    """
    labels, known = model.config.labels, weight_set.config.labels
    if labels and (known is None or known.names != labels.names):
        trained = Generator(model.config.with_labels(known))
        take_weights(trained, weight_set)
        if known:
            take_labels(model, trained)
        else:
            _take_unlabelled(model, trained)
        return
    for part, variables in model.parts.items():
        if isinstance(variables, list):
            weights.assign(variables, weight_set.load(part), weight_set.files[part])


def take_labels(model: Generator, other: Generator):
    """Copy the weights of a model that differs only in the names of its labels."""
    old, new = other.config.labels, model.config.labels
    numbers = {name: i for i, name in enumerate(old.names)}
    rows = [numbers.get(name, old.unlabelled_index) for name in (*new.names, None)]
    for name, condition in other.conditions.items():
        arrays = condition.get_weights()
        model.conditions[name].set_weights([arrays[0][rows]] if name == new.input else arrays)
    model.core.set_weights(other.core.get_weights())


def _take_unlabelled(model: Generator, plain: Generator):
    """Copy the weights of a model that differs only in having no labels. The kernel rows of the
    labels' channels in the context become zero.
    """
    for name, condition in plain.conditions.items():
        model.conditions[name].set_weights(condition.get_weights())
    conditions = model.config.conditions
    after = sum(c.channels for c in conditions[conditions.index(model.config.labels) + 1 :])
    arrays = {v.path: ops.convert_to_numpy(v) for v in plain.core.weights}
    for v in model.core.weights:
        rows = arrays.get(v.path, np.zeros((0, *v.shape[1:]), "float32"))
        v.assign(np.insert(rows, [len(rows) - after] * (v.shape[0] - len(rows)), 0.0, axis=0))
