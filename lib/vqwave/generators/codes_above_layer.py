"""The network that reads the codes of the level above."""

import keras
from keras import layers

from ..codecs.blocks_layer import CroppedResidual, SubPixelUpsampling, dilated_names
from ..levels.kinds import layer_for
from .codes_above import CodesAbove
from .embedding_layer import FrameEmbedding
from .generator import GeneratorConfig


@layer_for(CodesAbove)
def codes_above_model(config: CodesAbove, generator: GeneratorConfig) -> keras.Model:
    """source frames int32 [batch, N + 2·halo, books] -> context float32 [batch, N·ratio, channels].

    Unpadded dilated convolutions after WaveNet (van den Oord et al. 2016). Frames outside the piece
    are `pad_token`. So the context of a window equals that of the whole piece.
    """
    codes = keras.Input(config.shape, dtype="int32", name=config.input)
    x = FrameEmbedding(config.books, config.num_codes, config.channels, name="embedding")(codes)
    for name, dilation in dilated_names("dilated", config.dilations):
        x = CroppedResidual(config.channels, dilation, config.kernel_size, name=name)(x)
    x = SubPixelUpsampling(config.channels, generator.ratio, kernel_size=1, name="upsample")(x)
    x = layers.Activation("gelu", name="activation")(x)
    return keras.Model(codes, x, name="context")
