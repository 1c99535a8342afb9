"""A decoder and the performer of its codes, trained together against an adversary. Trained alone, a
performer plays the mean of what its score leaves open, and the mean sounds dull.
"""

import keras
import numpy as np
from keras import ops

from ..config import CodecConfig
from ..errors import UserError
from ..io import weights
from .codec import Codec
from .generator import Generator, load_generator
from .losses import squared_distance

UNPAIRED = 0.25
"""The share of a batch's rows without a recording of what is performed."""
REGRESSION = 0.1
"""The weight of the squared distance between the performer's vectors and the recording's codes."""


class Duet(Codec):
    """A `Codec`, of which training changes the decoder only, and the `performer` of its codes.

    The input of training is {"samples": audio, "performed": int32 [batch, 1, 1], and the input of
    each condition of the performer by name}. Rows with a 1 in "performed" decode the codes that the
    performer plays. The gradient passes through the choice of a code as if the performer's vector
    were decoded (straight-through, van den Oord et al. 2017). The last rows, a share `UNPAIRED`,
    perform a score of one recording with labels of another, as in a new piece. They are judged by
    the adversary alone.

    codebooks: of each code of a frame, float32 [codes, width], see `WeightSet.codebook_per_code`.
    """

    def __init__(self, config: CodecConfig, seed: int, performer: weights.WeightSet,
                 codebooks: list[np.ndarray]):
        super().__init__(config, seed, decoder_only=True)
        if sum(book.shape[1] for book in codebooks) != config.quantizer.vector_width:
            raise UserError(f"{config.name}: its performer cannot be trained with its decoder, "
                            f"because the codes of a frame share their vectors")
        self.performer, width = load_generator(performer), performer.config.core.code_dim
        self.origin = performer
        to_codec, at = np.zeros((len(codebooks), width, config.quantizer.vector_width)), 0
        for number, book in enumerate(codebooks):
            for place in range(book.shape[1]):
                to_codec[number, place, at] = book.std()
                at += 1
        self.to_codec = to_codec.astype("float32")
        self.regression = keras.metrics.Mean(name="regression")

    @property
    def companions(self) -> list[tuple[Generator, dict]]:
        """The models besides the codec that training changes, with fields of their records."""
        return [(self.performer, {key: self.origin.record[key] for key in ("codecs", "tracks")})]

    def choose_vectors(self, inputs, quantized, training):
        self.pairs, self.distance = slice(None), None
        if "performed" not in inputs:
            return quantized.vectors
        performer = self.performer
        context = performer.context(inputs, training)
        wanted = performer.core.played(context, training)
        logits = performer.core.nearest(wanted)
        moved = ops.einsum("...kd,kdw->...w", wanted - ops.stop_gradient(wanted), self.to_codec)
        played = self.quantizer.lookup(ops.argmax(logits, axis=-1)) + moved
        if training:
            self.pairs = slice(None, ops.shape(played)[0] - round(UNPAIRED * played.shape[0]))
            self.distance = ops.mean(squared_distance(
                ops.stop_gradient(quantized.codes[self.pairs]),
                performer.core(None, context[self.pairs])))
        return ops.where(inputs["performed"] > 0, played, quantized.vectors)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        total = super().compute_loss(x, y, y_pred, sample_weight, training)
        if self.distance is None:
            return total
        self.regression.update_state(self.distance)
        return total + REGRESSION * self.distance
