"""The base of the parts of a codec."""

from typing import Any, ClassVar

from ..levels.fields import Config


class CodecPart(Config):
    """One axis of a codec. Each kind of the axis is a class."""

    kind: str

    requires: ClassVar[dict[str, tuple[str, ...]]] = {}
    """{name of another axis: the kinds that this part works with}."""

    noncausal: ClassVar[bool] = False
    """Whether the part sees later samples with every padding."""

    @property
    def highest_frequency(self) -> float:
        """The frequency in Hz that the sample rate must be able to represent; 0: any."""
        return 0.0

    def check(self, codec: Any):
        """Raises `ValueError` if the other parts of the `CodecConfig` do not fit this part."""


class FrontEndPart(CodecPart):
    """What the encoder sees of the audio. hop: samples per step of the encoder's input."""


class EncoderPart(CodecPart):
    """An encoder, with its decoder."""


class HierarchyPart(CodecPart):
    """The levels of latents. bottom: the stage of the finer level, if there are two."""


class BlockPart(CodecPart):
    """The residual blocks of a stage."""


class UpsamplingPart(CodecPart):
    """The up-sampling between two stages."""


class BottleneckPart(CodecPart):
    """Layers between the stages and the codes."""
