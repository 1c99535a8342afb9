"""Trained models that another chain begins with, and what a small folder of music asks for.

What ships holds on music that it never saw, and learns new music in minutes where models from
nothing take hours. TensorFlow-free.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .. import config
from ..config import ChainConfig, Labels, Split, TrainingConfig
from ..errors import UserError
from ..io import silence, weights
from ..io.files import atomic_write, make_folder, printable
from ..progress import SilentReporter

FILE = "preset.yml"
"""In the output folder: the models and settings of a chain that begins with another."""

SMALL_HOURS = 1.0
"""Less music than this is heard transposed and quieter too, and learnt with dropout."""
TRANSPOSE, GAIN, DROPOUT = 3, 3.0, 0.1
CODEC_RATE, SMALL_RATE = 1e-4, 2e-4
"""The learning rates, at most, at which a codec is tuned and a generator learns little music: at
five times as much a codec begins by forgetting, and a generator knows the training tracks by heart
within minutes.
"""
SAMPLES = {"codec": 2 ** 17, "generator": 2 ** 21}
"""Samples of all windows that a model learns from at once, at most: less memory than what ships
took, and as good for what it learns.
"""
CODEC_PASSES, PASSES, SMALL_PASSES = 10, 16, 8
"""How often the tracks are heard at most by a codec that is tuned, by a generator, and by one of
little music. On 46 minutes a generator became no better for held-out tracks after eight passes, on
75 it still did.
"""
PATIENCE, SMALL_PATIENCE = 8, 3
"""Epochs without a better validation loss, after which a generator has learnt what it can; the
second of little music.
"""


@dataclass(frozen=True)
class Amount:
    """How much music a folder has: tracks and hours that train, tracks and hours held out."""

    tracks: int
    hours: float
    held_out: int
    held_out_hours: float

    @classmethod
    def of(cls, data_dir, split: Split, trim_silence: float | None, say=None) -> Amount:
        """Of a data folder with the split and `trim_silence` of its trainings.

        Args:
            say: a `progress.Reporter`, told of what is left out.

        Raises:
            UserError: nothing sounds in it.
        """
        sides, spans = silence.read_sides(data_dir, split, 0, trim_silence,
                                          say or SilentReporter())
        hours = [sum((spans[t.file][1] - spans[t.file][0]) / t.sample_rate for t in side) / 3600
                 for side in sides]
        return cls(len(sides[0]), hours[0], len(sides[1]), hours[1])

    @property
    def small(self) -> bool:
        return self.hours < SMALL_HOURS

    def __str__(self):
        return (f"{self.tracks} track{'s' * (self.tracks != 1)} to learn from "
                f"({60 * self.hours:.0f} min), {self.held_out} held out "
                f"({60 * self.held_out_hours:.0f} min)")


@dataclass(frozen=True)
class Origin:
    """The folders of codecs and generators that a chain begins with."""

    codecs: Path
    generators: Path

    @classmethod
    def find(cls, folder=None) -> Origin:
        """What lies in `folder`, with the shipped codecs where it has none; None: what ships.

        Raises:
            UserError: there are no generators in there.
        """
        codecs = weights.find_folder(weights.CODECS, weights.CODECS)
        generators = weights.find_folder(folder or weights.GENERATORS, weights.GENERATORS)
        chain = weights.chain(generators)
        if not weights.tags(generators, top := chain.generator(chain.top)):
            raise UserError(f"{printable(generators)}: no {top} in there to begin with; "
                            f"--from-scratch begins with nothing")
        if any(weights.tags(generators, name) for name in chain.codecs.values()):
            codecs = generators
        return cls(codecs, generators)

    @cached_property
    def chain(self) -> ChainConfig:
        return weights.chain(self.generators)

    def __str__(self):
        return " and ".join(dict.fromkeys(str(folder) for folder in (self.codecs,
                                                                     self.generators)))

    def folder_of(self, name: str) -> Path:
        """The folder of a model of the chain."""
        return self.codecs if name in self.chain.codecs.values() else self.generators

    def set_of(self, name: str) -> weights.WeightSet:
        """The weights of a model of the chain. Raises `UserError` where there are none."""
        return weights.find(self.folder_of(name), name)

    @property
    def trim_silence(self) -> float | None:
        """How much silence is left at the ends of tracks: as what begins the chain was trained."""
        return self.set_of(self.chain.generator(self.chain.top)).trim_silence

    @property
    def trained_on(self) -> set[str]:
        """The tracks that the top generator, or its codec, was trained on."""
        return self.set_of(self.chain.generator(self.chain.top)).trained_on or set()

    def labels_of(self, generator: str) -> Labels | None:
        """What a generator of the chain is told of labels; None: nothing."""
        return self.set_of(generator).config.labels

    def adopt(self, chain: ChainConfig, folder, amount: Amount, untrained: Collection[str] = ()):
        """Let `folder` play the models of `chain`, as far as they are not there already, and hold
        the preset that tunes them. untrained: the models that are not taken over.
        """
        weights.save_chain(make_folder(folder), chain)
        found = {name: self.set_of(name) for name in chain.names}
        for name, one in found.items():
            if name not in untrained and not weights.tags(folder, name):
                weights.copy_as_best(one, folder)
        path = Path(folder) / FILE
        values = self._preset(chain, found, amount, untrained)
        if path.exists():
            # What a model was begun with stays; levels may have come.
            before = config.load_yaml(path)
            for key in ("codecs", "generators"):
                values[key] |= {name: one for name, one in (before.get(key) or {}).items()
                                if name in values[key]}
        with atomic_write(path) as f:
            f.write(config.dump_yaml(values).encode())

    def _preset(self, chain: ChainConfig, found: dict, amount: Amount,
                untrained: Collection[str]) -> dict:
        """A preset of the models as they are, with settings that fit the amount of music; those of
        `untrained` are trained as they were.
        """
        def describe(name):
            model = config.to_dict(found[name].config)
            training = config.to_dict(_training_of(found[name]))
            # What is this run's own to say.
            for key in ("steps", "epochs", "seed", "mixed_precision", "patience"):
                del training[key]
            kind = model.pop("kind")
            if name in untrained:
                return model | {"training": training}
            training["batch_size"] = max(1, min(training["batch_size"],
                                                SAMPLES[kind] // training["input_length"]))
            if kind == "codec":
                training |= {"passes": CODEC_PASSES,
                             "learning_rate": min(CODEC_RATE, training["learning_rate"])}
            else:
                training |= {"patience": SMALL_PATIENCE if amount.small else PATIENCE,
                             "passes": SMALL_PASSES if amount.small else PASSES}
                if amount.small:
                    training |= {"learning_rate": min(SMALL_RATE, training["learning_rate"]),
                                 "transpose": max(TRANSPOSE, training["transpose"]),
                                 "gain": max(GAIN, training["gain"])}
                    if "dropout" in model["core"]:
                        model["core"]["dropout"] = max(DROPOUT, model["core"]["dropout"])
            return model | {"training": training}

        return {"schema": config.SCHEMA, "about": f"what {self} holds, tuned to other music",
                "chain": config.to_dict(chain),
                "data": {"trim_silence": self.trim_silence},
                "codecs": {name: describe(name) for name in chain.codecs.values()},
                "generators": {name: describe(name) for name in chain.generators.values()}}


def _training_of(found: weights.WeightSet) -> TrainingConfig:
    """How a set was trained; where that is unknown, how a preset would train it."""
    if found.training:
        return found.training
    for label in config.preset_names():
        preset, name = config.preset(label), found.name
        if name in preset.chain.names and preset.model(name).level == found.config.level:
            return preset.training(name)
    return TrainingConfig()
