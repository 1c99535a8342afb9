"""A minute of each held-out track, and its copy by a codec."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vqwave.codecs import CodecConfig
from vqwave.commands import arguments
from vqwave.errors import UserError
from vqwave.io import audio, defaults, manifest, weights
from vqwave.io.files import printable
from vqwave.play.engine import CodecEngine
from vqwave.report import judge

from . import results
from .corpus import read_split

FIRST_SECOND, SECONDS = 20.0, 60.0

Pair = tuple[np.ndarray, np.ndarray]
"""A recording and its copy, float32 [samples] each."""


class Side(NamedTuple):
    """One side of the split of a corpus, and a pair of each track."""

    folder: str
    kind: str
    tracks: list[manifest.Track]
    pairs: list[Pair]

    @property
    def name(self) -> str:
        """Such as "wesnoth test"."""
        return f"{self.folder} {self.kind}"

    def describe(self, weight_set) -> str:
        """What training and choices had to do with these tracks."""
        return results.describe_side(self.kind, self.tracks, {
            weight_set.name: judge.find_leaked(weight_set, self.tracks)})


def add_codec(parser):
    """--vqvae-weights-dir and --model."""
    arguments.add_codecs(parser)
    parser.add_argument("--model", default="vqvae_512", metavar="NAME",
                        help="the codec (default: vqvae_512)")


def find_codec(args) -> weights.WeightSet:
    """The codec of the arguments of `add_codec`."""
    weight_set = weights.find(defaults.codecs(args.vqvae_weights_dir), args.model)
    if not isinstance(weight_set.config, CodecConfig):
        raise UserError(f"{args.model} is a generator; --model names a codec")
    return weight_set


def first_sample(track) -> int:
    """Where the minute of a track begins: at 20 s, or at a third of a short track."""
    return min(round(FIRST_SECOND * track.sample_rate), track.samples // 3)


def read(data_dir, track) -> np.ndarray:
    """A minute of a track, float32 [samples]."""
    first = first_sample(track)
    count = min(round(SECONDS * track.sample_rate), track.samples - first)
    return audio.from_u16(audio.read_window(track.path(data_dir), first, count))


def decode(codec: CodecEngine, sound: np.ndarray) -> np.ndarray:
    """A sound, float32 [samples], through a codec and 16 bits, as the recordings have them."""
    copy = codec.decode(codec.encode(sound[None]))[0, : len(sound)]
    return audio.from_u16(audio.to_u16(copy))


def sides(corpora, codec: CodecEngine, kinds, bar) -> Iterator[Side]:
    """The sides of these kinds that have tracks. corpora: (data folder, split) of each. bar: shows
    the tracks.
    """
    rate = codec.config.sample_rate
    for folder, split in corpora:
        tracks_of = read_split(folder, split)
        for kind in kinds:
            if not (tracks := tracks_of[kind]):
                continue
            if tracks[0].sample_rate != rate:
                raise UserError(f"{printable(folder)}: is at {tracks[0].sample_rate} Hz, the codec "
                                f"at {rate} Hz")
            name = Path(folder).resolve().name
            yield Side(name, kind, tracks, [
                (sound, decode(codec, sound)) for sound in (
                    read(folder, track)
                    for track in bar.track(tracks, description=f"{name} {kind}"))])
