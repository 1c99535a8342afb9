"""A self-organizing map as a quantizer."""

import keras
import numpy as np
from keras import ops

from ...levels.kinds import layer_for
from ..codebooks_layer import VectorQuantizer, distances
from .som import SOMQuantizer


@layer_for(SOMQuantizer)
class SelfOrganizingMap(VectorQuantizer):
    """A `VectorQuantizer` whose codes lie on a grid and also learn from their neighbours' latents
    (Kohonen 1982).

    Before the EMA, counts and totals of a batch are spread by h_ij = exp(−d_ij² / 2σ²), where d is
    the distance on the grid. So neighbouring codes sound alike. σ falls geometrically from `radius`
    times the longest side to `final_radius` grid steps over `shrink_steps` training steps. σ stays
    above 0, because otherwise the map loses its order while the latents move.
    Metric: topographic_error, the share of latents whose two nearest codes are not neighbours on
    the grid (Kiviluoto 1996).
    """

    def __init__(self, config: SOMQuantizer, seed: int = 0, **kwargs):
        super().__init__(config, seed, **kwargs)
        place = np.stack(np.divmod(np.arange(self.num_codes), config.grid[1]),
                         axis=1).astype("float32")
        self.squared_distances = ((place[:, None] - place[None]) ** 2).sum(-1)

    def build(self, shape):
        super().build(shape)
        self.steps = self.add_weight(shape=(), initializer="zeros", trainable=False, name="steps")

    def new_metrics(self) -> dict[str, keras.metrics.Metric]:
        error = keras.metrics.Mean(name="topographic_error")
        return super().new_metrics() | {error.name: error}

    def use_loaded_codebooks(self):
        super().use_loaded_codebooks()
        self.steps.assign(float(self.config.shrink_steps))

    def _share_with_neighbours(self, count, total):
        config = self.config
        first = config.radius * max(config.grid)
        done = ops.minimum(self.steps / config.shrink_steps, 1.0)
        width = first * (min(config.final_radius, first) / first) ** done
        self.steps.assign(self.steps + 1.0)
        share = ops.exp(-self.squared_distances / (2.0 * width**2))
        return ops.matmul(share, count[:, None])[:, 0], ops.matmul(share, total)

    def call(self, latents, training=False, window_mask=None):
        flat = ops.reshape(ops.cast(latents, "float32"), (-1, self.code_dim))
        nearest = ops.top_k(-distances(flat, ops.convert_to_tensor(self.codebook)), 2)[1]
        between = ops.take(ops.reshape(ops.convert_to_tensor(self.squared_distances), (-1,)),
                           nearest[:, 0] * self.num_codes + nearest[:, 1])
        # Neighbours are at most one step away along each axis: a squared distance of 1 or 2.
        error = ops.mean(ops.cast(between > 2.5, "float32"))
        quantized = super().call(latents, training, window_mask)
        return quantized._replace(metrics=quantized.metrics | {"topographic_error": error})
