"""A WaveNet as a core."""

from typing import Literal

from ...levels.fields import Dilations, Positive
from ..cores import CoreConfig, KernelFrames


class WaveNetCore(CoreConfig):
    """A stack of gated dilated causal convolutions (van den Oord et al. 2016, "WaveNet: A
    generative model for raw audio", eq. 2).

    dilations: of each layer. kernel_size: the frames that a layer sees, with the current one.
    channels: of the residual path. skip_channels: of the features, the sum of all layers' outputs.
    """

    kind: Literal["wavenet"] = "wavenet"
    channels: Positive = 192
    skip_channels: Positive = 256
    kernel_size: KernelFrames = 2
    dilations: Dilations = (1, 2, 4, 8, 16, 32, 64, 128, 256) * 2

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """A queue for each layer: its earlier inputs, oldest first (Paine et al. 2016, "Fast
        WaveNet generation algorithm").
        """
        return {f"queue_{i}": ((self.kernel_size - 1) * dilation, self.channels)
                for i, dilation in enumerate(self.dilations)}

    @property
    def span(self) -> int:
        return (self.kernel_size - 1) * max(self.dilations)
