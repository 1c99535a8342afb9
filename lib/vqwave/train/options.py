"""The options of a training: what a command line and a YAML file say, made into configs.
TensorFlow-free.

A setting is the preset's, unless the `--config` file has it, unless a flag has it.
"""

from __future__ import annotations

import argparse
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args

from .. import cli, config, stderr
from ..config import (
    ChainConfig,
    CodecConfig,
    ConfigError,
    DataConfig,
    GeneratorConfig,
    TrainingConfig,
)
from ..errors import UserError
from ..io import weights
from ..io.splits import read_split
from .record import STEPS_PER_EPOCH

KEEP = 3
"""How many numbered sets stay, besides the best."""


@dataclass(frozen=True)
class RunOptions:
    """What belongs to one invocation, not to the model that it trains.

    minutes: train for about so long, in place of the config's steps. start_epoch: go on from that
    epoch. start_from: a folder with the weights to begin with. decoder_only: leave encoder and
    codebook as they are. given: names of the settings of `TrainingConfig` and `DataConfig` that
    were asked for; a run that goes on keeps its others as they are (None: those that the two
    configs were made with).
    """

    output_dir: str | Path
    minutes: float | None = None
    start_epoch: int | None = None
    start_from: str | Path | None = None
    decoder_only: bool = False
    keep_all: bool = False
    promote: bool = False
    distribute: bool = False
    given: frozenset[str] | None = None

    def asked(self, training: TrainingConfig, data: DataConfig) -> frozenset[str]:
        """The names of the settings that were asked for, see `given`."""
        if self.given is not None:
            return self.given
        return frozenset(training.model_fields_set | data.model_fields_set)


class TrainingSettings(NamedTuple):
    """Every setting of a training; `chain` names the codecs of a generator."""

    model: CodecConfig | GeneratorConfig
    training: TrainingConfig
    data: DataConfig
    options: RunOptions
    chain: ChainConfig

    def train(self, data_dir, codec_dir=None, codec_epoch=None, scheduler: str | None = None):
        """Train the model; a generator on the codes of the codecs in `codec_dir`."""
        stderr.import_keras()
        from . import training

        if isinstance(self.model, CodecConfig):
            training.train_codec(self.model, data_dir, self.options, self.training, self.data,
                                 chain=self.chain)
        else:
            training.train_generator(self.model, data_dir, codec_dir, self.options, self.training,
                                     self.data, codec_epoch=codec_epoch, chain=self.chain,
                                     scheduler=scheduler)


# ---------------------------------------------------------------------------------------- the flags

# Flags that set a field of `TrainingConfig`, and that field.
_SETTINGS = ("batch_size", "input_length", "steps", "epochs", "learning_rate",
             "seed", "patience", "offsets",
             "transpose", "gain")


def add_options(p: argparse.ArgumentParser, role: str):
    """The options of a trainer of one `role`, "codec" or "generator"; `read_settings` understands
    them.
    """
    flag, which = ("--model", "the codec") if role == "codec" else ("--generator", "the generator")
    p.add_argument(flag, dest="name", metavar="NAME", help=f"{which}: a name of the preset's "
                                                           f"chain (default: the {which} of "
                                                           f"--config)")
    p.add_argument("--data-dir", required=True, metavar="DIR",
                   help="the data folder that `prepare` wrote")
    p.add_argument("--output-dir", default=weights.GENERATORS, metavar="DIR",
                   help="the folder of weights, state and logs")
    add_preset(p)
    p.add_argument("--config", metavar="F.yml", help="a YAML file with the keys model, training "
                                                     "and data, as beside a set of weights, that "
                                                     "overrides the preset")
    add_training_flags(p)
    p.add_argument("--minutes", type=cli.number(float, above=0), metavar="M",
                   help="train for about so many minutes, instead of --steps")
    p.add_argument("--start-epoch", type=cli.number(int, 1), metavar="N",
                   help="continue from epoch N instead of the latest step")


def add_preset(p: argparse.ArgumentParser):
    p.add_argument("--preset", "--size", default=config.SHIPPED, metavar="NAME",
                   help=f"{', '.join(config.preset_names())}, or the path of a preset's YAML file")


def add_training_flags(p: argparse.ArgumentParser):
    """The flags that can be meant for every model of a chain alike."""
    p.add_argument("--batch-size", type=cli.number(int, 1), metavar="N",
                   help="windows in a step (default: the preset's)")
    p.add_argument("--input-length", type=cli.number(int, 1), metavar="SAMPLES",
                   help="length of a window (default: the preset's; for a codec shorter where "
                        "many tracks are shorter)")
    p.add_argument("--steps", type=cli.number(int, 1), metavar="N",
                   help="optimizer steps (default: the preset's)")
    p.add_argument("--epochs", type=cli.number(int, 1),
                   metavar="N", help="divide the steps into N epochs, each of which ends with "
                                     "validation and saving "
                        f"(default: one for every {STEPS_PER_EPOCH} steps)")
    p.add_argument("--learning-rate", type=cli.number(float, above=0),
                   metavar="RATE", help="peak learning rate, after warm-up (default: the preset's)")
    p.add_argument("--seed", type=cli.number(int, 0), metavar="S",
                   help=f"seed of the initial weights and the order of windows (default: "
                        f"{TrainingConfig().seed})")
    p.add_argument("--val-split", metavar="SHARE|F.yml",
                   help="the tracks held out for validation: a share of the hours, or a split.yml "
                        "with their names "
                        f"(default: {DataConfig().split})")
    p.add_argument("--patience", type=cli.number(int, 0),
                   metavar="N", help="stop after N epochs without a better validation loss "
                                     "(default: the preset's; 0: never)")
    p.add_argument("--start-from", metavar="DIR",
                   help="begin with this model's weights in DIR (the set without a number, else "
                        "the best) instead of random weights")
    p.add_argument("--distribute", action="store_true",
                   help="train on all GPUs of this machine or of several machines, with JAX "
                        "(docs/scaling.md); each gets a part of --batch-size")
    p.add_argument("--fp16", action="store_true", help="mixed precision: float16 on a GPU, "
                                                       "bfloat16 on a CPU")
    p.add_argument("--keep-all", action="store_true",
                   help=f"keep every epoch's weights, not only the last {KEEP} and the best")
    p.add_argument("--promote", action="store_true",
                   help="at the end, also save the best set without a number, as float16; it is "
                        "then loaded by default")


def parse_training_flags(words: list[str]) -> argparse.Namespace:
    """The flags that can be meant for every model of a chain alike."""
    parser = cli.parser("")
    add_training_flags(parser)
    return parser.parse_args(words)


def parse_split(text) -> float | config.Split:
    """What `--val-split` says: a share of the hours, or the tracks that a `split.yml` names."""
    if isinstance(text, config.Split):
        return text
    try:
        share = float(text)
    except ValueError:
        return read_split(text)
    if not 0.0 <= share < 1.0:
        raise UserError(f"--val-split is {text}; it must be a share from 0 to below 1, or the path "
                        f"of a split.yml")
    return share


# ------------------------------------------------------------------------------------- the settings


def read_settings(args, role: str) -> TrainingSettings:
    """What preset, `--config` and flags say together.

    Args:
        args: what a parser with `add_options` has read.
        role: "codec" or "generator".

    Raises:
        UserError: one of them says what cannot be.
    """
    preset = config.preset(args.preset)
    file = _read_file(args.config)
    name, model = _model(preset, role, args.name, file.get("model") or {}, args.config)
    if getattr(args, "label", None):
        model = with_labels(model, args.label)
    own = file.get("training") or {}
    own = own | {key: getattr(args, key) for key in _SETTINGS
                 if getattr(args, key, None) is not None}
    if args.fp16:
        own["mixed_precision"] = True
    base = preset.training(name) if name in preset.chain.names else TrainingConfig()
    training = config.override(base, own, f"{args.config}: training" if args.config else "training")
    held = dict(file.get("data") or {})
    if args.val_split is not None:
        held["split"] = parse_split(args.val_split)
        if isinstance(held["split"], config.Split):
            held["split"] = config.to_dict(held["split"])
    data = config.validate(DataConfig, config.to_dict(preset.data) | held, f"{args.config}: data")
    start = args.start_from
    if start in (weights.CODECS, weights.GENERATORS):  # what ships, also outside the checkout
        start = weights.find_folder(start, start)
    return TrainingSettings(model, training, data, RunOptions(
        args.output_dir, args.minutes, args.start_epoch, start,
        getattr(args, "decoder_only", False),
        args.keep_all, args.promote, args.distribute, frozenset(own) | frozenset(held)),
                            preset.chain)


def add_label(p: argparse.ArgumentParser, *more: str):
    """`--label`. more: further words of its help."""
    p.add_argument("--label", choices=get_args(config.Labels.model_fields["of"].annotation),
                   help=" ".join(["train with a label for each track, which can then be chosen "
                                  "when playing: the name of the recording's folder below SRC of "
                                  "`prepare`, or a tag", *more]))


def with_labels(model: CodecConfig | GeneratorConfig,
                of: str) -> CodecConfig | GeneratorConfig:
    """A model that is told labels, and what says them."""
    if model.labels and model.labels.of == of:
        return model
    return model.with_labels(config.Labels(of=of))


def _read_file(path) -> dict:
    """{"model": …, "training": …, "data": …} as far as a `--config` file has them."""
    if path is None:
        return {}
    values = config.load_yaml(path)
    config.check_schema(values, path)
    if "sha256" in values:  # the file beside a set of weights
        values = {key: value for key, value in values.items() if value != weights.UNKNOWN}
    sections, other = ("model", "training", "data"), ("schema", "record", "sha256")
    if not set(values) & {*sections, *other}:
        return {"model": values}
    for key in values:
        if key not in sections + other:
            near = difflib.get_close_matches(str(key).lower(), sections, n=1, cutoff=0.0)[0]
            raise ConfigError(f"{path}: unknown key {str(key)[:60]!r}; did you mean {near!r}? "
                              f"Known: {', '.join(sections)}")
    for key in sections:
        if not isinstance(values.get(key) or {}, dict):
            raise ConfigError(f"{path}: {key} must be a mapping")
    return values


def _model(preset: config.Preset, role: str, name: str | None, own: dict,
           path) -> tuple[str, object]:
    """The preset's name of the model, and the model as the file has it."""
    names = (preset.chain.codecs if role == "codec" else preset.chain.generators).values()
    if own.get("kind", role) != role:
        raise ConfigError(f"{path}: describes a {own['kind']}, not a {role}")
    name = name or own.get("name")
    if not names and "level" not in own:
        for codec in preset.chain.codecs:
            preset.codec(codec).check_codes("a generator")
        raise ConfigError(f"preset {preset.name}: has no generators; --config must describe one")
    if name is None:
        flag = "--model" if role == "codec" else "--generator"
        raise UserError(f"{flag} is missing: it must be one of {', '.join(names)}, or --config "
                        f"must describe one")
    if name not in names and "stages" not in own and "level" not in own:
        getattr(preset, role)(name)  # which says what names there are
    base = config.to_dict(preset.model(name)) if name in names else {"kind": role, "name": name}
    own = dict(own)
    if isinstance(own.get("conditions"), list):
        known = {c["kind"]: c for c in base.get("conditions", ())}
        own["conditions"] = [config.merge(known.get(c.get("kind", "codes"), {}), c)
                             if isinstance(c, dict) else c
                             for c in own["conditions"]]
    return name, config.validate_model(config.merge(base, own),
                                       path or f"preset {preset.name}: {name}")
