"""The settings of a model's training, and of its data."""

from typing import Annotated

import pydantic
from pydantic import Field

from .fields import AboveZero, Config, Flag, Positive, Real, Share, Text, Weight, Whole


class TrainingConfig(Config):
    """The settings of a training. input_length: samples of a window. passes: the most passes over
    the tracks in a training with a limit of minutes (0: no limit). mixed_precision: None chooses
    what is faster on this machine.

    transpose, gain: augmentation by up to this many semitones higher and lower, and by up to this
    many dB quieter. mix (codecs): the share of windows to which another window is added. offsets
    (generators): the number of offsets within a frame at which each training track is encoded.
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
    mixed_precision: Flag | None = None
    offsets: Annotated[int, Field(strict=True, ge=1, le=64)] = 4
    transpose: Annotated[int, Field(strict=True, ge=0, le=12)] = 0
    gain: Annotated[Real, Field(ge=0, le=24)] = 0.0
    mix: Share = 0.0


class Split(Config):
    """The held-out tracks of each side. All other tracks train, except those `excluded` (for
    example another version of a test track). A track is named by its file without endings; or, if
    names are shared, by its file in the data folder without `.u16`, or by the first 16 digits of
    its sha256. `test` and `fresh` are for the final report only. chosen_by_test, chosen_by_fresh:
    descriptions of choices that were made with these tracks.
    """

    validation: tuple[Text, ...] = ()
    test: tuple[Text, ...] = ()
    fresh: tuple[Text, ...] = ()
    excluded: tuple[Text, ...] = ()
    chosen_by_test: Text = ""
    chosen_by_fresh: Text = ""

    @property
    def held_out_tracks(self) -> tuple[str, ...]:
        """All tracks that do not train."""
        return (*self.validation, *self.test, *self.fresh, *self.excluded)


DataSplit = Annotated[Annotated[Share, pydantic.Tag("share")]
                      | Annotated[Split, pydantic.Tag("tracks")],
                      pydantic.Discriminator(lambda value: "tracks" if isinstance(
                          value, dict | Split) else "share")]


class DataConfig(Config):
    """The data of a training. split: the held-out share of the hours (as whole tracks), or the
    tracks by name. trim_silence: the most seconds of silence that stay at each end of a track;
    tracks that are mostly silent are left out. None keeps all tracks whole.
    """

    split: DataSplit = 0.1
    trim_silence: Weight | None = 1.0
