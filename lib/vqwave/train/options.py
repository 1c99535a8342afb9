"""The options of a training. Flags override the `--config` file, which overrides the preset."""

import argparse
import dataclasses
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, get_args

from .. import cli
from ..codecs import CodecConfig, Labels
from ..errors import UserError
from ..generators import GeneratorConfig, validate_model
from ..io import weights
from ..io.splits import read_split
from ..levels import (
    ChainConfig,
    Config,
    ConfigError,
    DataConfig,
    Split,
    TrainingConfig,
    load_yaml,
    merge,
    override,
    to_dict,
    validate,
)
from ..presets import DEFAULT_PRESET, Preset, load_preset
from .record import STEPS_PER_EPOCH

SETTINGS = {
    "batch_size": ("N", "windows in each optimizer step"),
    "input_length": ("SAMPLES", "length of a window"),
    "steps": ("N", "optimizer steps of each model"),
    "learning_rate": ("RATE", "peak learning rate after the warm-up"),
    "seed": ("S", "seed of the initial weights and the order of the windows"),
    "patience": ("N", "stop after N epochs without improvement of the validation loss; 0: never"),
}
GENERATOR_SETTINGS = {
    "offsets": ("N", "encode each track at N offsets within a frame"),
    "transpose": ("SEMITONES", "add copies of the training tracks, transposed by up to SEMITONES "
                               "up and down"),
    "gain": ("DB", "make some of the copies up to DB dB quieter"),
}
"""Flags that set a field of `TrainingConfig`: {field: (metavar, help)}."""


@dataclass(frozen=True)
class RunOptions:
    """The options of one invocation, which do not change the model.

    minutes: the length of the training from `began` on (a time of `time.monotonic`), instead of the
    config's steps. start_from: the folder of the initial weights. start_epoch: the epoch whose
    weights a new optimizer continues. decoder_only: freeze encoder and codebook. performer: the
    folder of generators whose performances the decoder also learns. keep_last: the number of
    numbered sets that stay, besides the best; None: all.
    set_by_user: the fields of `TrainingConfig` and `DataConfig` that the user set; a continued run
    keeps its values of all other fields. None: the fields that the configs were created with.
    """

    output_dir: str | Path
    minutes: float | None = None
    start_from: str | Path | None = None
    start_epoch: int | None = None
    decoder_only: bool = False
    performer: str | Path | None = None
    keep_last: int | None = None
    promote: bool = False
    distribute: bool = False
    set_by_user: frozenset[str] | None = None
    began: float = dataclasses.field(default_factory=time.monotonic, compare=False)

    @property
    def ends(self) -> float:
        """The end of the training, a time of `time.monotonic`."""
        return self.began + 60 * self.minutes if self.minutes else math.inf

    def set_fields(self, training: TrainingConfig, data: DataConfig) -> frozenset[str]:
        """The fields that the user set, see `set_by_user`."""
        if self.set_by_user is not None:
            return self.set_by_user
        return frozenset(training.model_fields_set | data.model_fields_set)


class TrainingSettings(NamedTuple):
    """Every setting of a training; `chain` names the codec of each level. preset: its name."""

    model: CodecConfig | GeneratorConfig
    training: TrainingConfig
    data: DataConfig
    options: RunOptions
    chain: ChainConfig
    preset: str


class ConfigFile(Config):
    """The content of a `--config` file: the changed keys of a model, its training and its data."""

    model: dict[str, Any] = {}
    training: dict[str, Any] = {}
    data: dict[str, Any] = {}

    @classmethod
    def read(cls, path) -> Self:
        values = load_yaml(path)
        # The YAML file beside a set of weights has more keys, and its training may be unknown.
        return validate(cls, {
            key: value for key, value in values.items()
            if key not in ("schema", "record", "sha256", "graphs")
            and value not in (None, weights.UNKNOWN)},
            str(path))


def add_options(p: argparse.ArgumentParser, role: str):
    """The options of a command that trains one model. role: "codec" or "generator"."""
    flag = "--model" if role == "codec" else "--generator"
    p.add_argument(flag, dest="name", metavar="NAME",
                   help=f"name of the {role} in the preset (default: the {role} of --config)")
    p.add_argument("--data-dir", required=True, metavar="DIR",
                   help=f"the data folder that `{cli.command('prepare')}` wrote")
    p.add_argument("--output-dir", default=weights.GENERATORS, metavar="DIR",
                   help="folder for the weights, the training state and the logs")
    add_preset(p)
    p.add_argument("--config", metavar="F.yml",
                   help="a YAML file that overrides the preset; its keys are model, training and "
                        "data, as in the YAML file beside a set of weights")
    p.add_argument("--minutes", type=cli.number(float, above=0), metavar="M",
                   help="end after M minutes, preparations included, instead of after --steps")
    p.add_argument("--start-from", metavar="DIR",
                   help="start from the weights of this model in DIR (the default set, or "
                        "the best) instead of random weights")
    p.add_argument("--start-epoch", type=cli.number(int, 1), metavar="N",
                   help="continue from the weights of epoch N in --output-dir with a new "
                        "optimizer; later epochs are written again")
    add_training_flags(p, role == "generator")


def add_preset(p: argparse.ArgumentParser):
    p.add_argument("--preset", "--size", default=DEFAULT_PRESET, metavar="NAME",
                   help=f"a preset (`{cli.command('train')} --list` lists all), or the path of a "
                        f"preset's YAML file")


def add_training_flags(p: argparse.ArgumentParser, generator: bool = True):
    """The flags that all models of a chain share. generator: also add the flags of generators."""
    settings = p.add_argument_group("training (the preset has the defaults)")
    p, rare = settings, p.add_argument_group("rare options")
    for field, (metavar, text) in (SETTINGS | (GENERATOR_SETTINGS if generator else {})).items():
        p.add_argument(f"--{field.replace('_', '-')}", metavar=metavar,
                       type=cli.field(TrainingConfig, field),
                       help=text)
    p.add_argument("--epochs", type=cli.number(int, 1), metavar="N",
                   help=f"number of epochs (default: that of the preset, or an epoch for every "
                        f"{STEPS_PER_EPOCH} steps)")
    p.add_argument("--val-split", metavar="SHARE|F.yml",
                   help=f"tracks to hold out for validation: a share of the hours, or the path of "
                        f"a split.yml (default: {DataConfig().split})")
    p.add_argument("--label", choices=get_args(Labels.model_fields["of"].annotation),
                   help="train generators and VAEs with a label for each track, which you can "
                        "choose when you play: the folder of the recording, a tag, or a part "
                        "of the track")
    if generator:
        rare.add_argument("--scheduler", metavar="tcp://HOST:PORT",
                          help="encode the tracks on a Dask cluster (docs/scaling.md)")
    rare.add_argument("--distribute", action="store_true",
                      help="train on all GPUs of one or several machines, with JAX "
                           "(docs/scaling.md)")
    p.add_argument("--fp16", action=argparse.BooleanOptionalAction,
                   help="mixed precision: float16 on a GPU, otherwise bfloat16 (default: what "
                        "a second of measuring finds to be faster here)")
    rare.add_argument("--keep-last", type=cli.number(int, 1), metavar="N",
                      help="keep only the weights of the last N epochs and of the best (default: "
                           "all epochs)")
    rare.add_argument("--promote", action="store_true",
                      help="at the end, copy the best weights, as float16, to the set without "
                           "an epoch number, which plays by default")


def parse_split(text) -> float | Split:
    """The value of `--val-split`: a share of the hours, or the split in a `split.yml`."""
    if isinstance(text, Split):
        return text
    try:
        share = float(text)
    except ValueError:
        return read_split(text)
    if not 0.0 <= share < 1.0:
        raise UserError(f"--val-split is {text}; it must be a share from 0 to below 1, or the path "
                        f"of a split.yml")
    return share


def read_settings(args: argparse.Namespace, role: str, **changes) -> TrainingSettings:
    """The settings of one training, from preset, `--config` and flags. args: the result of a parser
    with `add_options`. changes: replacements of values in `args`.
    """
    args = argparse.Namespace(**vars(args) | changes)
    preset, path = load_preset(args.preset), args.config
    file = ConfigFile() if path is None else ConfigFile.read(path)
    name, model = _read_model(preset, role, args.name, file.model, path)
    if args.label and not (model.labels and model.labels.of == args.label):
        model = model.with_labels(Labels(of=args.label))
    fields = [*SETTINGS, "epochs", *(GENERATOR_SETTINGS if role == "generator" else ())]
    flags = {field: getattr(args, field) for field in fields} | {"mixed_precision": args.fp16}
    given = file.training | {key: value for key, value in flags.items() if value is not None}
    base = preset.trainings[name] if name in preset.chain.names else TrainingConfig()
    data = dict(file.data)
    if args.val_split is not None:
        data["split"] = parse_split(args.val_split)
    start_epoch = getattr(args, "start_epoch", None)
    if start_epoch and args.start_from:
        raise UserError("--start-epoch takes its weights from --output-dir, --start-from from "
                        "another folder: give only one")
    start_from = args.start_from and Path(args.start_from)
    where = f"{path}: " if path else ""
    return TrainingSettings(
        model, override(base, given, f"{where}training"),
        validate(DataConfig, to_dict(preset.data) | data, f"{where}data"),
        RunOptions(args.output_dir, args.minutes, start_from, start_epoch,
                   getattr(args, "decoder_only", False), getattr(args, "performer", None),
                   args.keep_last, args.promote, args.distribute,
                   frozenset(given) | frozenset(data)),
        preset.chain, preset.name)


def _read_model(preset: Preset, role: str, name: str | None, own: dict,
                path) -> tuple[str, CodecConfig | GeneratorConfig]:
    """The model's name in the preset, and its config with the keys of the `--config` file."""
    chain = preset.chain
    names = list((chain.codecs if role == "codec" else chain.generators).values())
    described = "level" in own or "stages" in own
    if own.get("kind", role) != role:
        raise ConfigError(f"{path}: describes a {own['kind']}, not a {role}")
    if not names and not described:
        for codec in chain.codecs:
            preset.codec(codec).check_codes("a generator")
        raise ConfigError(f"preset {preset.name}: has no generators; --config must describe one")
    name = name or own.get("name")
    if name is None:
        raise UserError(f"--{'model' if role == 'codec' else role} is missing: it must be one of "
                        f"{', '.join(names)}, or --config must describe one")
    if name not in names and not described:
        getattr(preset, role)(name)  # raises with the names that exist
    base = to_dict(preset.models[name]) if name in names else {"kind": role, "name": name}
    return name, validate_model(merge(base, own),
                                path or f"preset {preset.name}: {name}")
