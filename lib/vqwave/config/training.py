"""How a model is trained, and on what."""

from typing import Annotated

import pydantic
from pydantic import Field

from .fields import AboveZero, Config, Flag, Positive, Real, Share, Text, Weight, Whole


class TrainingConfig(Config):
    """How a model is trained. input_length: samples of a window. passes: how often a training with
    a limit of minutes uses its tracks, at most (0: no limit).

    transpose: training also hears each track up to this many semitones higher and lower, gain: up
    to this many dB quieter. mix (codecs): the share of windows to which another window is added.
    offsets (generators): offsets within a frame at which each training track is encoded.
    """

    steps: Positive = 10000
    epochs: Positive | None = None
    batch_size: Positive = 8
    input_length: Positive = 65536
    learning_rate: AboveZero = 3e-4
    weight_decay: Weight = 0.01
    warmup: Whole = 200
    seed: Whole = 0
    patience: Whole = 0
    passes: Whole = 0
    mixed_precision: Flag = False
    offsets: Annotated[int, Field(strict=True, ge=1, le=64)] = 4
    transpose: Annotated[int, Field(strict=True, ge=0, le=12)] = 0
    gain: Annotated[Real, Field(ge=0, le=24)] = 0.0
    mix: Share = 0.0


class Split(Config):
    """The tracks of each side; all others train, except those `excluded` (another version of a test
    track, say). A track goes by its file's name without endings; where names are shared, by its
    file in the data folder without `.u16`, or the first 16 digits of its sha256. `test` and `fresh`
    are for the final report alone. chosen_by_test: what was chosen by the test tracks, in words.
    """

    validation: tuple[Text, ...] = ()
    test: tuple[Text, ...] = ()
    fresh: tuple[Text, ...] = ()
    excluded: tuple[Text, ...] = ()
    chosen_by_test: Text = ""

    @property
    def held_out_tracks(self) -> tuple[str, ...]:
        """Every track that does not train."""
        return (*self.validation, *self.test, *self.fresh, *self.excluded)


DataSplit = Annotated[Annotated[Share, pydantic.Tag("share")]
                      | Annotated[Split, pydantic.Tag("tracks")],
                      pydantic.Discriminator(lambda value: "tracks" if isinstance(
                          value, dict | Split) else "share")]


class DataConfig(Config):
    """What a model is trained on. split: the share of the hours that is held out, by whole tracks,
    or the tracks by name. trim_silence: seconds of silence that stay at either end of a track, at
    most; tracks that are mostly silent are left out. None keeps every track whole.
    """

    split: DataSplit = 0.1
    trim_silence: Weight | None = 1.0
