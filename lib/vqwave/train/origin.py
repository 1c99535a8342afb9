"""The trained models that a chain starts from, and settings for a small folder of music."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from ..codecs import Labels
from ..errors import UserError
from ..io import defaults, silence, weights
from ..io.files import make_folder, printable, write_yaml
from ..levels import SCHEMA, ChainConfig, Split, TrainingConfig, load_yaml, to_dict

PRESET_FILE = "preset.yml"
"""In the output folder: the models and settings of a chain that starts from trained models."""
SMALL_HOURS = 1.0
"""With less music than this, training adds transposed and quieter copies, and dropout."""
TRANSPOSE, GAIN, DROPOUT = 3, 3.0, 0.1
CODEC_RATE, SMALL_RATE = 1e-4, 2e-4
"""The highest learning rates for tuning a codec, and for a generator with little music. With a rate
five times as high, a codec first gets worse, and a generator over-fits within minutes.
"""
SAMPLES = {"codec": 2 ** 17, "generator": 2 ** 21}
"""The most samples in a batch. Larger batches need more memory and do not train better."""
CODEC_PASSES, PASSES, SMALL_PASSES = 10, 16, 8
"""The most passes over the tracks: of a codec, a generator, and a generator with little music. With
46 minutes of music a generator stopped improving after eight passes; with 75 minutes it did not.
"""
PART_PASSES = 22
"""The most passes of a generator with labels of parts, which begin untrained. At `SMALL_RATE` and
with early stopping, it does not learn them.
"""
PATIENCE, SMALL_PATIENCE = 8, 3
"""The patience of a generator, and of a generator with little music."""


@dataclass(frozen=True)
class CorpusSize:
    """The amount of music in a folder: tracks and hours, for training and held out."""

    tracks: int
    hours: float
    held_out: int
    held_out_hours: float

    @classmethod
    def of(cls, data_dir, split: Split, trim_silence: float | None) -> Self:
        """The amount in a data folder. Raises `UserError` if every track is silent."""
        sides, spans = silence.read_sides(data_dir, split, 0, trim_silence)
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
class BaseModels:
    """The folders of the codecs and generators from which a chain starts."""

    codecs: Path
    generators: Path

    @classmethod
    def find(cls, folder=None) -> Self:
        """The models in `folder`, or the shipped codecs if it has none; None: all shipped models.
        Raises `UserError` if the folder has no generators.
        """
        codecs, generators = defaults.folders(generators=folder)
        chain = weights.chain(generators)
        if not weights.tags(generators, top := chain.generator(chain.top)):
            raise UserError(f"{printable(generators)}: has no {top} to begin with; --from-scratch "
                            f"begins with random weights")
        return cls(codecs, generators)

    @cached_property
    def chain(self) -> ChainConfig:
        return weights.chain(self.generators)

    def __str__(self):
        return " and ".join(dict.fromkeys(map(str, (self.codecs, self.generators))))

    def folder_of(self, name: str) -> Path:
        """The folder of a model of the chain."""
        return self.codecs if name in self.chain.codecs.values() else self.generators

    def set_of(self, name: str) -> weights.WeightSet:
        """The weights of a model. Raises `UserError` if a wheel has only its graphs."""
        return weights.find(self.folder_of(name), name).require_weights()

    @cached_property
    def _top(self) -> weights.WeightSet:
        return self.set_of(self.chain.generator(self.chain.top))

    @property
    def trim_silence(self) -> float | None:
        """The `DataConfig.trim_silence` of the top generator."""
        return self._top.trim_silence

    @property
    def trained_on(self) -> set[str]:
        """The tracks that the top generator and its codec were trained on."""
        return self._top.trained_on or set()

    def labels_of(self, generator: str) -> Labels | None:
        """The labels of a generator of the chain; None if it has no labels."""
        return self.set_of(generator).config.labels

    def adopt(self, chain: ChainConfig, folder, size: CorpusSize):
        """Copy the models of `chain` that are missing in `folder`, and write the preset that tunes
        them.
        """
        weights.save_chain(make_folder(folder), chain)
        sets = {name: self.set_of(name) for name in chain.names}
        for name, weight_set in sets.items():
            if not weights.tags(folder, name):
                weights.copy_as_best(weight_set, folder)
        path = Path(folder) / PRESET_FILE
        models = {name: _tuned(weight_set, size) for name, weight_set in sets.items()}
        if path.exists():
            # A training that has begun keeps its settings, but levels may have been added.
            before = load_yaml(path)
            models |= {name: model for key in ("codecs", "generators")
                       for name, model in (before.get(key) or {}).items() if name in models}
        values = {"schema": SCHEMA, "about": f"the models of {self}, tuned to other music",
                  "chain": to_dict(chain), "data": {"trim_silence": self.trim_silence},
                  "codecs": {name: models[name] for name in chain.codecs.values()},
                  "generators": {name: models[name] for name in chain.generators.values()}}
        write_yaml(path, values)


def _tuned(weight_set: weights.WeightSet, size: CorpusSize) -> dict:
    """A model for a preset, with settings for this amount of music."""
    model = to_dict(weight_set.config)
    kind = model.pop("kind")
    training = to_dict(weight_set.training or TrainingConfig())
    for key in ("steps", "epochs", "seed", "mixed_precision", "patience"):  # set for each run
        del training[key]
    changes = {"batch_size": max(1, min(training["batch_size"],
                                        SAMPLES[kind] // training["input_length"]))}
    if kind == "codec":
        changes |= {"passes": CODEC_PASSES,
                    "learning_rate": min(CODEC_RATE, training["learning_rate"])}
    else:
        changes |= {"passes": PASSES, "patience": PATIENCE}
        if size.small:
            changes |= {"passes": SMALL_PASSES, "patience": SMALL_PATIENCE,
                        "learning_rate": min(SMALL_RATE, training["learning_rate"]),
                        "transpose": max(TRANSPOSE, training["transpose"]),
                        "gain": max(GAIN, training["gain"])}
            model["core"]["dropout"] = max(DROPOUT, model["core"]["dropout"])
        if weight_set.config.learns_parts:
            changes |= {"passes": PART_PASSES, "patience": 0,
                        "learning_rate": training["learning_rate"]}
    return model | {"training": training | changes}
