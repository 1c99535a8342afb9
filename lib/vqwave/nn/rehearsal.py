"""A performer learns from the sound of what it plays. Trained on codes alone, a performer plays the
mean of what its score leaves open, and the mean sounds dull.
"""

import keras
import numpy as np
from keras import ops

from ..config import GeneratorConfig
from ..errors import UserError
from ..io import weights
from .codec import Codec
from .generator import Generator
from .losses import squared_distance

UNPAIRED = 4
"""In training, one of so many rows of a batch performs another recording's score."""
REGRESSION = 0.5
"""The weight of the squared distance between the performer's vectors and the recording's codes."""


class Rehearsal(Codec):
    """The performer of a trained codec's codes, together with that codec, of which nothing changes.

    {"samples": audio, and the input of each condition of the performer by name} -> the audio of
    the performance. The loss is the codec's. The gradient passes through the choice of a code as if
    the performer's vector were decoded (straight-through, van den Oord et al. 2017). In training,
    the last rows of a batch, one of `UNPAIRED`, have the score and the labels of other places, as a
    new piece has. The adversary alone judges them.
    """

    def __init__(self, codec: weights.WeightSet, performer: GeneratorConfig, seed: int):
        super().__init__(codec.config, seed, decoder_only=True)
        if self.adversary is None:
            raise UserError(f"{codec.summary}: has no adversary, from which a performer could "
                            f"learn")
        for part, variables in super().parts.items():
            weights.assign(variables, codec.load(part), codec.files[part])
        self.quantizer.use_loaded_codebooks()
        self.decoder.trainable = False
        self.performer, self.distance = Generator(performer), None
        self.to_codec = _to_codec(codec, performer.core.code_dim)
        self.regression = keras.metrics.Mean(name="regression")

    @property
    def parts(self) -> dict[str, list | dict]:
        return self.performer.parts

    def choose_vectors(self, inputs, quantized, training):
        performer, rows = self.performer, ops.shape(inputs["samples"])[0]
        self.pairs = slice(None, rows - rows // UNPAIRED if training else None)
        context = performer.context(inputs, training)
        wanted = performer.core.played(context, training)
        codes = ops.argmax(performer.core.nearest(wanted), axis=-1)
        self.distance = ops.mean(squared_distance(
            ops.stop_gradient(quantized.codes[self.pairs]),
            performer.core(None, context[self.pairs], training=training)))
        moved = ops.einsum("...kd,kdw->...w", wanted - ops.stop_gradient(wanted), self.to_codec)
        return self.quantizer.lookup(codes) + moved

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        total = super().compute_loss(x, y, y_pred, sample_weight, training)
        self.regression.update_state(self.distance)
        return total + REGRESSION * self.distance


def _to_codec(codec: weights.WeightSet, width: int) -> np.ndarray:
    """The change of a frame's vector in the codec for a change of the performer's vectors: float32
    [books, width, vector_width].

    Raises `UserError` for a codec whose frames are not the concatenated vectors of their codes.
    """
    books, total = codec.codebook_per_code(), codec.config.quantizer.vector_width
    if sum(book.shape[1] for book in books) != total:
        raise UserError(f"{codec.summary}: the codes of a frame share their vectors, so that a "
                        f"performer cannot learn through them")
    matrix, at = np.zeros((len(books), width, total), np.float32), 0
    for number, book in enumerate(books):
        for place in range(book.shape[1]):
            matrix[number, place, at] = book.std()
            at += 1
    return matrix
