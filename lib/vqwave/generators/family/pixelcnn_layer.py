"""A PixelCNN as a core."""

from keras import layers, ops

from ...codecs.blocks_layer import dense, gelu
from ...levels.kinds import layer_for
from ..code_heads_layer import CodebookHeads, gated
from ..cores_layer import QueuedStack
from ..generator import GeneratorConfig
from .pixelcnn import PixelCNNCore


class GridHeads(CodebookHeads):
    """The horizontal stack of a gated PixelCNN, over the books of a frame in order. In layer i and
    book k, with the features v_i of the vertical stack (`PixelCNNStack`):

        z = gated(A_i·[g_i,k−n … g_i,k] + v_i,k)        g_{i+1},k = g_i,k + M_i·z

    g_0,k is the embedding of the code of book k − 1 (zeros for the first book), and n is half of
    kernel_books. The logits of book k come from gelu(H·g_last,k). There is no blind spot, because
    each book reads the features of the books before.
    """

    def __init__(self, config: GeneratorConfig, width: int):
        super().__init__(config)
        core = config.core
        channels, count = core.channels, range(len(core.dilations))
        self.taps = core.kernel_books // 2 + 1
        self.make_tables(channels)
        self.across = [dense(self.taps * channels, 2 * channels, f"across_{i}") for i in count]
        self.mixes = [dense(channels, channels, f"mix_{i}") for i in count]
        self.hidden = dense(channels, core.head_dim, "hidden")
        self.make_outputs(*[core.head_dim] * config.books)
        self.layers = [*self.from_books, *self.across, *self.mixes, self.hidden, *self.outputs]

    def logits(self, h, code):
        """See `CodebookHeads.logits`; h: [..., books, layers·2·channels]."""
        links = ops.split(h, len(self.across), axis=-1)
        x = ops.zeros_like(h[..., 0, : self.config.core.channels])
        rows = [[x] * (self.taps - 1) for _ in self.across]
        for k, layer in enumerate(self.outputs):
            for row, link, across, mix in zip(rows, links, self.across, self.mixes, strict=True):
                row.append(x)
                z = across(ops.concatenate(row[-self.taps :], axis=-1))
                x = x + mix(gated(z + link[..., k, :]))
            logits = layer(gelu(self.hidden(x)))
            yield logits
            if k < self.config.books - 1:
                x = self.from_books[k](code(k, logits))


@layer_for(PixelCNNCore)
class PixelCNNStack(QueuedStack):
    """The vertical stack of a gated PixelCNN (van den Oord et al. 2016, "Conditional image
    generation with PixelCNN decoders", figure 2) on the grid of frames and books. The features of a
    code depend on all books of the earlier frames, and on no code of its own frame.

    The input is the previous frame, so no mask is needed. The features go to each layer of the
    horizontal stack, `GridHeads`.
    """

    HEADS = GridHeads

    def build_stack(self, width):
        core = self.config.core
        count, self.taps = len(core.dilations), core.kernel_frames
        inputs = self.taps * core.kernel_books * core.channels
        self.enter = dense(core.embedding_dim, core.channels, "enter")
        context = self.config.context_channels
        self.context_layers = ([dense(context, self.config.books * core.channels, "given")]
                               if context else [])
        self.downs = [dense(inputs, 2 * core.channels, f"down_{i}") for i in range(count)]
        self.links = [dense(core.channels, 2 * core.channels, f"link_{i}") for i in range(count)]
        self.dropouts = [layers.Dropout(core.dropout, name=f"dropout_{i}") for i in range(count)]
        return 2 * core.channels * count

    def run_layers(self, x, with_past, training=False):
        """x: [..., books·embedding_dim + context_channels]. Inside, features are [..., books,
        channels].
        """
        core, books = self.config.core, self.config.books
        wide, around = books * core.embedding_dim, core.kernel_books // 2
        shape = (*ops.shape(x)[:-1], books, -1)
        context = [ops.reshape(layer(x[..., wide:]), shape) for layer in self.context_layers]
        x = sum(context, self.enter(ops.reshape(x[..., :wide], shape)))
        features = []
        for i, (down, link) in enumerate(zip(self.downs, self.links, strict=True)):
            taps = with_past(i, x)
            taps = ops.pad(taps, [*[[0, 0]] * (len(x.shape) - 2), [around, around], [0, 0]])
            taps = ops.concatenate([taps[..., j : j + books, :] for j in range(core.kernel_books)],
                                   axis=-1)
            z = self.dropouts[i](gated(down(taps)), training=training)
            features.append(link(z))
            x = x + z
        return ops.concatenate(features, axis=-1)
