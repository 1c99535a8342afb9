"""How a model is trained, and on what."""

from __future__ import annotations

import contextlib
from typing import Annotated

import pydantic
from pydantic import Field
from pydantic_core import PydanticKnownError

from .fields import Config, Flag, Positive, Real, Text, Weight, Whole, parse_number, short


class TrainingConfig(Config):
    """How a model is trained. input_length: samples a window. passes: how often a training that is
    told its minutes hears its tracks at most (0: as often as fits); an epoch is a pass, or less.

    As what training tracks are heard besides: transpose: by how many semitones higher and lower at
    most (0: not); gain: by how many dB quieter at most (0: not). Of a generator they are encoded
    so, of a codec each window is changed as it is read (`data.windows.Changes`).
    mix: of codecs alone: in what share of the windows another one is added.
    offsets: of generators alone: alignments of the codes under which each training track is
    encoded.
    """

    steps: Positive = 10000
    epochs: Positive | None = None
    batch_size: Positive = 8
    input_length: Positive = 65536
    learning_rate: Annotated[Real, Field(gt=0)] = 3e-4
    weight_decay: Weight = 0.01
    warmup: Whole = 200
    seed: Whole = 0
    patience: Whole = 0
    passes: Whole = 0
    mixed_precision: Flag = False
    offsets: Annotated[int, Field(strict=True, ge=1, le=64)] = 4
    transpose: Annotated[int, Field(strict=True, ge=0, le=12)] = 0
    gain: Annotated[Real, Field(ge=0, le=24)] = 0.0
    mix: Annotated[Real, Field(ge=0, lt=1)] = 0.0


class Split(Config):
    """Tracks and the side they are on; the rest trains. A track goes by its name (file name without
    folders and endings) or, where others have that, by its file in the data folder without `.u16`
    or the first 16 digits of its sha256.

    `test` is for the final report alone, and so is `fresh`, by which nothing was ever chosen;
    `excluded` is on no side (a test track's other version). chosen_by_test: what was chosen by
    looking at the test tracks, in words.
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


def _check_split(value):
    """`value`. Raises `ValueError` where it is neither a share nor may be a `Split`."""
    if isinstance(value, dict | Split):
        return value
    with contextlib.suppress(PydanticKnownError):
        if 0 <= parse_number(value) < 1:
            return value
    raise ValueError(f"{short(value)} is neither a share from 0 to below 1 nor a mapping that "
                     f"names tracks ({', '.join(Split.model_fields)})")


def _split_tag(value) -> str:
    return "tracks" if isinstance(value, dict | Split) else "share"


DataSplit = Annotated[Annotated[Real, pydantic.Tag("share")]
                      | Annotated[Split, pydantic.Tag("tracks")],
                      pydantic.Discriminator(_split_tag), pydantic.BeforeValidator(_check_split)]


class DataConfig(Config):
    """What a model is trained on. split: a share of the hours in [0, 1) held out by track, or the
    tracks by name.

    trim_silence: seconds of silence (`data/silence.py`) that stay at most at either end of a
    track; tracks that are silence for the most part are left out. None takes every track whole.
    """

    split: DataSplit = 0.1
    trim_silence: Weight | None = 1.0
