"""Generators: cores, sampling, and the model of one level's frames."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from .codec import CodecConfig
from .conditions import CodesAbove, Condition, Dilations, Labels, LayerCount, Share
from .fields import (
    Books,
    CodeCount,
    Config,
    ConfigError,
    Flag,
    Name,
    Positive,
    Real,
    Weight,
    Whole,
    check_name,
    check_odd,
    default_kind,
    replace,
    short,
    to_dict,
    validate,
)

QUIETNESS = "quiet"
"""The variable of a core's last layers that says how quiet the music of each code was."""


class CoreConfig(Config):
    """P(frame_t | frame_<t, context): what the cores of all kinds can be told.

    embedding_dim: of a code of the frame before. head_dim: features from which each book after the
    first is drawn. repeats: whether each book has an output for its code to stay as it was, for
    codes that change seldom.
    dropout: the share of each layer's outputs that training sets to zero; input_dropout: of the
    codes before, each left out whole (Gal and Ghahramani 2016), so that none is leant on alone.
    drawing: the books of a frame "in_order", each knowing those before it, or "together", none
    knowing the others: as fast as one book, for codes that the conditions nearly decide.
    quiet_cost: nats that each dB of quiet takes off a code's logit, everywhere but in the loss of
    training. How quiet the music of each code is, `data.loudness` measures on the training tracks.
    """

    kind: str
    embedding_dim: Positive = 32
    dropout: Share = 0.0
    input_dropout: Share = 0.0
    head_dim: Positive = 256
    repeats: Flag = False
    drawing: Literal["in_order", "together"] = "in_order"
    quiet_cost: Weight = 0.0

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """What its layers remember: arrays by name, in order, each of this shape behind the batch
        axis.
        """
        raise NotImplementedError

    @property
    def span(self) -> int:
        """Frames that the layer that looks back furthest does; 0 where nothing says how far."""
        return 0


class LSTMCore(CoreConfig):
    """A stack of LSTMs over frames."""

    kind: Literal["lstm"] = "lstm"
    units: Positive = 512
    layers: LayerCount = 2

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}_{i}": (self.units,) for i in range(self.layers) for name in "hc"}


class WaveNetCore(CoreConfig):
    """A stack of dilated causal convolutions, each through a gate (van den Oord et al. 2016,
    "WaveNet: A generative model for raw audio", eq. 2).

    dilations: of each layer. kernel_size: frames that a layer sees, the last of them its own.
    channels: of the residual path; skip_channels: of the features, the sum of what all layers give.
    """

    kind: Literal["wavenet"] = "wavenet"
    channels: Positive = 192
    skip_channels: Positive = 256
    kernel_size: Annotated[int, Field(strict=True, ge=2, le=16)] = 2
    dilations: Dilations = (1, 2, 4, 8, 16, 32, 64, 128, 256) * 2

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """A queue a layer: what it was given in the frames that it still sees, the oldest first
        (Paine et al. 2016, "Fast WaveNet generation algorithm").
        """
        return {f"queue_{i}": ((self.kernel_size - 1) * dilation, self.channels)
                for i, dilation in enumerate(self.dilations)}

    @property
    def span(self) -> int:
        return (self.kernel_size - 1) * max(self.dilations)


class TransformerCore(CoreConfig):
    """A decoder-only transformer that looks back over a window (Vaswani et al. 2017), normalised
    before each part (Xiong et al. 2020).

    width: of the residual path, shared out among `heads`; hidden_dim: of the layers of two
    products. window: frames that a layer's attention sees, its own among them.
    sinks: keys and values of each layer and head that are learnt and always there, for attention
    that belongs to no frame (Xiao et al. 2023, "Efficient streaming language models with attention
    sinks", section 3.3): so a window may slide for ever.
    """

    kind: Literal["transformer"] = "transformer"
    width: Positive = 256
    heads: Annotated[int, Field(strict=True, ge=1, le=128)] = 8
    layers: LayerCount = 5
    hidden_dim: Positive = 1024
    window: Annotated[int, Field(strict=True, ge=1, le=8192)] = 128
    sinks: Annotated[int, Field(strict=True, ge=0, le=64)] = 1

    @pydantic.model_validator(mode="after")
    def _check(self):
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; it must be a multiple of heads, {self.heads}")
        return self

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """A ring of keys and one of values for each layer. `count` says where the rings are: frames
        so far, of which after the first `window` full turns are left out.
        """
        states: dict[str, tuple[int, ...]] = {"count": (1,)}
        return states | {f"{name}_{i}": (self.heads, self.window, self.width // self.heads)
                         for i in range(self.layers) for name in ("keys", "values")}

    @property
    def span(self) -> int:
        return self.window - 1


class PixelCNNCore(CoreConfig):
    """Gated convolutions on the grid of frames and books, each code seeing all frames before its
    own and the books before it (van den Oord et al. 2016, "Conditional image generation with
    PixelCNN decoders", section 2.2).

    channels: of each code's features. dilations: in frames, of each layer. kernel_frames: frames
    that a layer sees, its own among them; kernel_books: books that it sees of these, as many below
    as above its own. Here head_dim is the features from which every book is drawn.
    """

    kind: Literal["pixelcnn"] = "pixelcnn"
    channels: Positive = 96
    kernel_frames: Annotated[int, Field(strict=True, ge=2, le=16)] = 2
    kernel_books: Annotated[int, Field(strict=True, ge=1, le=63)] = 5
    dilations: Dilations = (1, 2, 4, 8, 16, 32, 64, 128)
    # The grid has an order of its books: there is no drawing them together.
    drawing: Literal["in_order"] = "in_order"

    @pydantic.model_validator(mode="after")
    def _check(self):
        check_odd("kernel_books", self.kernel_books)
        return self

    def states(self, books: int) -> dict[str, tuple[int, ...]]:
        """A queue a layer, as in `WaveNetCore`, of all books' features."""
        return {f"queue_{i}": ((self.kernel_frames - 1) * dilation, books, self.channels)
                for i, dilation in enumerate(self.dilations)}

    @property
    def span(self) -> int:
        return (self.kernel_frames - 1) * max(self.dilations)

    @property
    def books_seen(self) -> int:
        """Books before its own in its frame that a code is drawn by."""
        return len(self.dilations) * (self.kernel_books // 2) + 1


Core = Annotated[LSTMCore | WaveNetCore | TransformerCore | PixelCNNCore,
                 Field(discriminator="kind"), default_kind("lstm")]


MOST_GUIDANCE = 10.0
"""How strongly labels can be followed at most."""


class Sampling(Config):
    """How a generator's codes are drawn: temperature 0 takes the likeliest; top_k 0 and top_p 1
    leave nothing out. guidance: how strongly the labels are followed, 1 as it was trained (Ho and
    Salimans 2022): logits without labels + guidance · (logits with them − those without).
    """

    temperature: Weight = 1.0
    top_k: Whole = 0
    top_p: Annotated[Real, Field(gt=0, le=1)] = 1.0
    guidance: Annotated[Real, Field(ge=1, le=MOST_GUIDANCE)] = 1.0

    @property
    def unguided(self) -> Sampling:
        """The same, the labels followed as they were learnt."""
        return self if self.guidance == 1 else self.model_copy(update={"guidance": 1.0})


class GeneratorConfig(Config):
    """P(frame_t | frame_<t, conditions) of one level, the books of a frame in order."""

    kind: Literal["generator"] = "generator"
    name: Name
    level: Positive
    num_codes: CodeCount
    books: Books = 1
    core: Core = LSTMCore()
    conditions: tuple[Condition, ...] = ()
    sampling: Sampling = Sampling()

    @pydantic.model_validator(mode="after")
    def _check(self):
        check_name(self.name)
        inputs = [condition.input for condition in self.conditions]
        if twice := next((name for name in inputs if inputs.count(name) > 1), None):
            raise ValueError(f"conditions holds {inputs.count(twice)} with the input {twice}; each "
                             f"must have its own")
        for condition in self.conditions:
            condition.check(self.level)
        if isinstance(self.core, PixelCNNCore) and self.core.books_seen < self.books - 1:
            raise ValueError(f"the core's {len(self.core.dilations)} layers of kernel_books "
                             f"{self.core.kernel_books} see {self.core.books_seen} books before a "
                             f"code's own, but a frame has {self.books} books: the last would not "
                             f"know the first")
        return self

    @property
    def source(self) -> CodesAbove | None:
        """The level above, or None at the top of a chain."""
        return next((c for c in self.conditions if isinstance(c, CodesAbove)), None)

    @property
    def labels(self) -> Labels | None:
        """What it is told of labels, or None where it was made without."""
        return next((c for c in self.conditions if isinstance(c, Labels)), None)

    def with_labels(self, labels: Labels | None) -> GeneratorConfig:
        """The same with these labels in the place of its own, or besides its other conditions;
        None: it is told none.
        """
        new = [to_dict(labels)] if labels else []
        each = [new if one is self.labels else [to_dict(one)] for one in self.conditions]
        return replace(self, conditions=sum(each, []) + ([] if self.labels else new))

    def is_guided(self, sampling: Sampling) -> bool:
        """Whether its codes are drawn from what it says with labels and without."""
        return self.labels is not None and sampling.guidance != 1

    @property
    def source_level(self) -> int:
        """Samples per frame of the level above; 0 at the top of a chain."""
        return self.source.level if self.source else 0

    @property
    def ratio(self) -> int:
        """Steps of this level per source frame; 0 at the top of a chain."""
        return self.source_level // self.level

    @property
    def context_channels(self) -> int:
        """Width of what the conditions add to each step's input."""
        return sum(c.channels for c in self.conditions)

    @property
    def states(self) -> dict[str, tuple[int, ...]]:
        """What the core remembers, see `CoreConfig.states`."""
        return self.core.states(self.books)

    @property
    def start_token(self) -> int:
        """The id that stands before the first code of a piece."""
        return self.num_codes

    @property
    def pad_token(self) -> int:
        """The source id that stands for "outside the piece", left of its first frame and right of
        its last.
        """
        return self.source.num_codes if self.source else 0

    @property
    def halo(self) -> int:
        """Source frames that the context of one position sees on either side (0 at the top)."""
        return self.source.halo if self.source else 0


Model = Annotated[CodecConfig | GeneratorConfig, Field(discriminator="kind")]


def validate_model(values, who: str = "config") -> CodecConfig | GeneratorConfig:
    """A model's config from a mapping; its `kind` says which of the two it is."""
    kind = values.get("kind") if isinstance(values, dict) else None
    known = {"codec": CodecConfig, "generator": GeneratorConfig}
    if not isinstance(kind, str) or kind not in known:
        raise ConfigError(f"{who}: kind is {short(kind)}; it must be codec or generator")
    return validate(known[kind], values, who)
