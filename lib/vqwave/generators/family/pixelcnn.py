"""A PixelCNN as a core."""

from typing import Literal

from ...levels.fields import Dilations, KernelSize, Positive
from ..cores import CoreConfig, KernelFrames


class PixelCNNCore(CoreConfig):
    """Gated convolutions on the grid of frames and books. A code depends on earlier frames, and on
    earlier books of its frame (van den Oord et al. 2016, "Conditional image generation with
    PixelCNN decoders", section 2.2).

    channels: of each code's features. dilations: of each layer, in frames. kernel_frames,
    kernel_books: the frames (with the current one) and the books (symmetric around the code's book)
    that a layer sees. head_dim: features for the logits of each book.
    """

    kind: Literal["pixelcnn"] = "pixelcnn"
    channels: Positive = 96
    kernel_frames: KernelFrames = 2
    kernel_books: KernelSize = 5
    dilations: Dilations = (1, 2, 4, 8, 16, 32, 64, 128)

    def check(self, generator):
        books = len(self.dilations) * (self.kernel_books // 2) + 1
        if books < generator.books - 1:
            raise ValueError(f"a code depends on {books} earlier books, but a frame has "
                             f"{generator.books}: the core needs more dilations or kernel_books")

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """A queue for each layer, as in `WaveNetCore`, with the features of all books."""
        return {f"queue_{i}": ((self.kernel_frames - 1) * dilation, books, self.channels)
                for i, dilation in enumerate(self.dilations)}

    @property
    def span(self) -> int:
        return (self.kernel_frames - 1) * max(self.dilations)
