"""The sound of the level above as a condition."""

from typing import Literal

import numpy as np

from ..levels.conditions import ConditionConfig, View
from ..levels.fields import Dilations, KernelSize, Positive


class SoundAbove(ConditionConfig):
    """The sound of the level above, through a dilated CNN at the generator's rate. The input has a
    row of samples for each frame. So a level restores detail of a waveform that it hears, and need
    not guess the phase of each partial.

    level: the level above. hop: samples of a frame of the generator. loudness: the frames on either
    side of a frame by whose loudness its sound is divided.
    """

    input = "sound"
    dtype = "float32"
    reads_above = True
    kind: Literal["sound"] = "sound"
    level: Positive
    channels: Positive = 128
    dilations: Dilations = (1, 2, 4, 1)
    kernel_size: KernelSize = 3
    first_kernel: KernelSize = 7
    loudness: Positive = 32
    hop: Positive

    @classmethod
    def of_chain(cls, own, above) -> dict[str, int]:
        return {"level": above.level, "hop": own.level}

    @property
    def halo(self) -> int:
        """The receptive field of the context on either side, in frames of the generator."""
        return (self.loudness + self.first_kernel // 2
                + sum(self.dilations) * (self.kernel_size // 2))

    @property
    def shape(self) -> tuple[int | None, ...]:
        return None, self.hop

    def rows(self, view: View, start: int, count: int) -> np.ndarray:
        return view.sound_above(start - self.halo, start + count + self.halo)
