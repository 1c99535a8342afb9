"""Generators: cores, sampling, and the model of one level's frames."""

import math
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import pydantic
from pydantic import Field

from .codec import CodecConfig
from .conditions import AnyCondition, CodesAbove, Labels, SoundAbove
from .fields import (
    BookCount,
    CodeCount,
    Config,
    ConfigError,
    Dilations,
    Heads,
    KernelSize,
    Layers,
    Name,
    Positive,
    Real,
    Share,
    Weight,
    Whole,
    default_kind,
    replace,
    short,
    validate,
)
from .levels import SCORE
from .roll import LOUDNESSES, STRUCK

GAIN_WEIGHT = 8.0
"""The weight of a performer's books of gains, whose codes have one dimension. Books of n dimensions
have this weight / n, but at least 1.
"""
VECTOR_SCALE = 8.0
"""The factor of a performer's last layer, so that small steps of its weights suffice."""
NORM_EPSILON = 1e-5
"""A core's layer normalisation adds this to the variance."""
HIDDEN_DISTANCE = 1 << 30
"""The age, in frames, that hides a missing frame from attention."""
KernelFrames = Annotated[int, Field(strict=True, ge=2, le=16)]


class CoreConfig(Config):
    """P(frame_t | frame_<t, context): the common fields of all kinds of cores.

    embedding_dim: of a code of the previous frame. head_dim: features for each book after the
    first. dropout: the share of each layer's outputs that training sets to zero. input_dropout: the
    share of the previous codes that training leaves out (Gal and Ghahramani 2016).
    """

    kind: str
    learns: ClassVar[Literal["codes", "scores"]] = "codes"
    """The kind of frames: codes of sound, or steps of a score."""
    embedding_dim: Positive = 32
    dropout: Share = 0.0
    input_dropout: Share = 0.0
    head_dim: Positive = 256

    performs: ClassVar[bool] = False
    """Whether frames depend on the conditions only, see `FramesCore`."""

    def check(self, generator: Any):
        """Raises `ValueError` if the rest of the `GeneratorConfig` does not fit this core."""

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """{name: shape without the batch axis} of the layers' states, in order."""
        raise NotImplementedError

    @property
    def span(self) -> int:
        """The most earlier frames that a layer can see; 0: unlimited, or none without memory."""
        return 0

    def describe_loss(self, loss: float, books: int) -> str:
        """The text of a validation loss. loss: the mean over the books of a frame."""
        return f"validation {books * loss / math.log(2):.5g} bits a frame"


class LSTMCore(CoreConfig):
    """A stack of LSTMs over frames."""

    kind: Literal["lstm"] = "lstm"
    units: Positive = 512
    layers: Layers = 2

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}_{i}": (self.units,) for i in range(self.layers) for name in "hc"}


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


class TransformerCore(CoreConfig):
    """A decoder-only transformer with a sliding window (Vaswani et al. 2017) and pre-normalisation
    (Xiong et al. 2020).

    width: of the residual path, divided among `heads`. hidden_dim: of the feed-forward layers.
    window: the frames that a layer attends to, with the current one. sinks: the number of learnt
    keys and values of each layer and head, which are always visible (Xiao et al. 2023, "Efficient
    streaming language models with attention sinks", section 3.3). Sinks let the window slide on.
    """

    kind: Literal["transformer"] = "transformer"
    width: Positive = 256
    heads: Heads = 8
    layers: Layers = 5
    hidden_dim: Positive = 1024
    window: Annotated[int, Field(strict=True, ge=1, le=8192)] = 128
    sinks: Annotated[int, Field(strict=True, ge=0, le=64)] = 1

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; it must be a multiple of heads, {self.heads}")
        return self

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """Ring buffers of keys and values for each layer. `count` counts the frames; at 2·`window`
        it restarts at `window`.
        """
        states: dict[str, tuple[int, ...]] = {"count": (1,)}
        return states | {f"{name}_{i}": (self.heads, self.window, self.width // self.heads)
                         for i in range(self.layers) for name in ("keys", "values")}

    @property
    def span(self) -> int:
        return self.window - 1


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


class FramesCore(CoreConfig):
    """A performer: conditions and noise give a vector for each book, and the nearest code plays.
    The logit of a code is minus its weighted squared distance from the vector. One score has many
    performances: a mean of them would be dull. So there is noise among the inputs, and an adversary
    (`nn.performer.Critic`) asks for vectors like those of recordings.

    The noise of a book is a normalised sum of past draws, which decays with its own time constant,
    from 1 frame to `SLOWEST`. The temperature scales the draws: 1 as trained, 0 none; more is 1.

    head_dim: of the hidden layer. code_dim: the largest width of the codebooks' vectors. adversary,
    feature_matching: the weights of these losses beside the squared distance; 0: no adversary.
    """

    kind: Literal["frames"] = "frames"
    performs: ClassVar[bool] = True
    SLOWEST: ClassVar[float] = 256.0
    NEAREST: ClassVar[float] = 1e6
    """The inverse temperature at which the nearest code plays."""
    code_dim: Positive = 16
    adversary: Weight = 0.0
    feature_matching: Weight = 0.0

    def check(self, generator):
        if not generator.conditions or generator.books == 1:
            raise ValueError("a core of kind frames needs conditions and several books")

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        return {"noise": (books,)}

    def kept(self, books: int) -> np.ndarray:
        """The share of each book's noise that a frame keeps: float32 [books]."""
        return np.exp(-1 / np.geomspace(1.0, self.SLOWEST, books)).astype(np.float32)

    def draw_scale(self, books: int) -> np.ndarray:
        """The factor of each book's draws, uniform in [−0.5, 0.5), that gives its noise a variance
        of 1: float32 [books].
        """
        return np.float32(math.sqrt(12)) * np.sqrt(1 - self.kept(books) ** 2)

    def describe_loss(self, loss: float, books: int) -> str:
        return f"validation {loss:.5g}, the squared distance of a code's vector"


class RollCore(CoreConfig):
    """A score. Each book is a semitone, with codes for silence, for a note that goes on, and for
    strikes of each loudness. All semitones share their weights, so that all keys are equally likely
    (after Johnson 2017, "Generating polyphonic music using tied parallel networks").

    An LSTM over the steps reads, for each semitone, the last codes, and the averages of strikes and
    of their loudness of the neighbours within an octave. It also reads the strikes that followed
    the `matches` earlier passages of the piece that are most similar to the last `compared` steps.

    units: of the LSTM. head_dim: features of a semitone; its code also depends on the `below`
    semitones below. memory: the number of steps that are remembered.
    """

    kind: Literal["roll"] = "roll"
    learns: ClassVar[Literal["codes", "scores"]] = "scores"
    units: Positive = 48
    head_dim: Positive = 48
    below: Positive = 24
    memory: Annotated[int, Field(strict=True, ge=16, le=8192)] = 1024
    matches: Annotated[int, Field(strict=True, ge=1, le=16)] = 4
    compared: Annotated[int, Field(strict=True, ge=2, le=64)] = 8

    def check(self, generator):
        if generator.conditions:
            raise ValueError("a generator of a score has no conditions")
        if generator.level != SCORE:
            raise ValueError(f"level is {generator.level}; that of a score is {SCORE}")
        if generator.num_codes != (expected := STRUCK + LOUDNESSES):
            raise ValueError(f"num_codes is {generator.num_codes}; a score has {expected} "
                             "codes; train the score again")

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """The last steps, oldest first; the LSTM's state of each semitone; and the position of the
        step in its beat.
        """
        return {"past": (self.memory, books), "h": (books, self.units), "c": (books, self.units),
                "count": (1,)}


AnyCore = Annotated[LSTMCore | WaveNetCore | TransformerCore | PixelCNNCore | FramesCore | RollCore,
                    Field(discriminator="kind"), default_kind("lstm")]


MOST_GUIDANCE = 10.0


class Sampling(Config):
    """The sampling of codes. Temperature 0 takes the likeliest code; top_k 0 and top_p 1 keep all
    codes. guidance (Ho and Salimans 2022): the logits are u + guidance · (l − u), with the logits l
    with labels and u without; 1 is as trained.
    """

    temperature: Weight = 1.0
    top_k: Whole = 0
    top_p: Annotated[Real, Field(gt=0, le=1)] = 1.0
    guidance: Annotated[Real, Field(ge=1, le=MOST_GUIDANCE)] = 1.0


class GeneratorConfig(Config):
    """P(frame_t | frame_<t, conditions) of one level."""

    kind: Literal["generator"] = "generator"
    name: Name
    level: Positive
    num_codes: CodeCount
    books: BookCount = 1
    core: AnyCore = LSTMCore()
    conditions: tuple[AnyCondition, ...] = ()
    sampling: Sampling = Sampling()

    @pydantic.model_validator(mode="after")
    def _check(self):
        inputs = [condition.input for condition in self.conditions]
        if len(set(inputs)) < len(inputs):
            raise ValueError(f"two conditions have the same input: {', '.join(inputs)}")
        if self.above and (self.source_level == self.level or self.source_level % self.level):
            raise ValueError(f"the level above, {self.source_level}, must be a multiple of the "
                             f"generator's level, {self.level}")
        self.core.check(self)
        return self

    @property
    def above(self) -> CodesAbove | SoundAbove | None:
        """The condition that reads the level above, or None at the top of a chain."""
        return next((c for c in self.conditions if isinstance(c, CodesAbove | SoundAbove)), None)

    @property
    def source(self) -> CodesAbove | None:
        """`above`, if it reads codes."""
        return self.above if isinstance(self.above, CodesAbove) else None

    @property
    def hears(self) -> bool:
        """Whether it reads the sound of the level above, instead of its codes."""
        return isinstance(self.above, SoundAbove)

    @property
    def reads(self) -> list[int]:
        """The levels that the conditions read."""
        return [c.level for c in self.conditions if hasattr(c, "level")]

    @property
    def labels(self) -> Labels | None:
        return next((c for c in self.conditions if isinstance(c, Labels)), None)

    @property
    def learns_parts(self) -> bool:
        """Whether the labels are parts of tracks, which held-out tracks do not have."""
        return self.labels is not None and self.labels.are_parts

    def with_labels(self, labels: Labels | None) -> Self:
        """The same config with these labels; None: without labels."""
        conditions = [labels if c is self.labels else c for c in self.conditions]
        if self.labels is None:
            conditions.append(labels)
        return replace(self, conditions=[c for c in conditions if c is not None])

    def is_guided(self, sampling: Sampling) -> bool:
        """Whether codes are drawn from logits with labels and logits without."""
        return self.labels is not None and sampling.guidance != 1

    @property
    def source_level(self) -> int:
        """Samples per frame of the level above; 0 at the top of a chain."""
        return self.above.level if self.above else 0

    @property
    def ratio(self) -> int:
        """Steps of this level per source frame; 0 at the top of a chain."""
        return self.source_level // self.level

    @property
    def context_channels(self) -> int:
        """Channels that the conditions add to the input of each step."""
        return sum(c.channels for c in self.conditions)

    @property
    def states(self) -> dict[str, tuple[int, ...]]:
        """The core's states (`CoreConfig.states`)."""
        return self.core.states(self.books)

    @property
    def start_token(self) -> int:
        """The code of the frame before the first frame of a piece."""
        return self.num_codes

    @property
    def pad_token(self) -> int:
        """The source code of frames outside the piece."""
        return self.source.num_codes if self.source else 0

    @property
    def halo(self) -> int:
        """The receptive field of the context on either side, in source frames; 0 at the top."""
        if self.hears:
            return -(-self.above.halo // self.ratio)
        return self.above.halo if self.above else 0


def validate_model(values, who: str = "config") -> CodecConfig | GeneratorConfig:
    """A model's config from a mapping whose `kind` is codec or generator."""
    kinds = {"codec": CodecConfig, "generator": GeneratorConfig}
    kind = values.get("kind") if isinstance(values, dict) else values
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigError(f"{who}: kind is {short(kind)}; it must be codec or generator")
    return validate(kinds[kind], values, who)
