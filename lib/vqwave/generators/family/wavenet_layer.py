"""A WaveNet as a core."""

from keras import layers

from ...codecs.blocks_layer import dense, gelu
from ...levels.kinds import layer_for
from ..code_heads_layer import gated
from ..cores_layer import QueuedStack
from .wavenet import WaveNetCore


@layer_for(WaveNetCore)
class WaveNetStack(QueuedStack):
    """Gated dilated causal convolutions (van den Oord et al. 2016, "WaveNet"). Layer i, with input
    r_i and dilation d:

        z = tanh(F·[r_i,t−(k−1)d … r_i,t]) ⊙ σ(G·[the same])
        r_{i+1} = r_i + R·z        features = gelu(Σ_i S_i·z_i / √layers)

    Frames before a piece are zero.
    """

    def build_stack(self, width):
        core = self.config.core
        last, self.taps = len(core.dilations) - 1, core.kernel_size
        self.enter = dense(width, core.channels, "enter")
        self.gates = [dense(self.taps * core.channels, 2 * core.channels, f"gates_{i}")
                      for i in range(last + 1)]
        # The last layer's residual path is not used.
        self.mixes = [dense(core.channels, core.skip_channels + core.channels * (i < last),
                            f"mix_{i}") for i in range(last + 1)]
        self.dropouts = [layers.Dropout(core.dropout, name=f"dropout_{i}") for i in range(last + 1)]
        return core.skip_channels

    def run_layers(self, x, with_past, training=False):
        core, skips = self.config.core, 0.0
        x = self.enter(x)
        for i, (gates, mix) in enumerate(zip(self.gates, self.mixes, strict=True)):
            z = mix(self.dropouts[i](gated(gates(with_past(i, x))), training=training))
            skips = skips + z[..., : core.skip_channels]
            if z.shape[-1] > core.skip_channels:
                x = x + z[..., core.skip_channels :]
        return gelu(skips * len(self.gates) ** -0.5)
