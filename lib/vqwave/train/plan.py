"""The plan of a chain's training: every codec, then every generator, and the time of each. If a
generator performs a score, its codec's decoder learns the performances last, unless the codec of
trained models suits the music. TensorFlow-free.

A chain may begin with trained models (`origin.BaseModels`). Codecs that suit the folder's held-out
tracks are then kept. Of the other codecs only the decoder is tuned, so all codes stay valid.
"""

import argparse
import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pydantic

from .. import cli
from ..errors import UserError
from ..io import manifest, splits
from ..io.files import printable, write_yaml
from ..levels import (
    SCHEMA,
    SCORE,
    ChainConfig,
    DataConfig,
    Split,
    TrainingConfig,
    level_name,
    load_yaml,
    read_level,
    replace,
    to_dict,
)
from ..presets import DEFAULT_PRESET, load_preset
from . import devices, options, origin
from .origin import BaseModels, CorpusSize

TIME_SHARES = {"codec": 1.0, "decoder": 0.5, "generator": 2.5}
"""The weights of the trainings' times. A codec needs less time than a generator."""
ENDING = 240.0
"""The seconds that are kept for the report, at most a sixth of the hours."""
PLAN_FILE = "train_all.yml"
REPORT = "report.html"
"""In the output folder: the final report."""


@dataclass(frozen=True)
class PlannedTraining:
    """One training. role: "codec" or "generator". decoder_only: train only a codec's decoder."""

    role: str
    name: str
    decoder_only: bool = False

    @property
    def share(self) -> float:
        return TIME_SHARES["decoder" if self.decoder_only else self.role]

    @property
    def key(self) -> str:
        """The name of this training in messages and in the saved state."""
        return f"{self.name} decoder" if self.decoder_only else self.name


NotNegative = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False, strict=True)]


class PlanState(pydantic.BaseModel):
    """The progress of a plan, as in `train_all.yml`.

    spent: seconds so far. spent_on: seconds of each training. finished: the steps of each finished
    training (1 if it had a share of the hours). origin: the folders of the origin. shortfalls: of
    each codec of the origin, the bounds that its reconstructions miss; "" if it suits the music.
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    preset: str
    spent: NotNegative = 0.0
    finished: dict[str, Annotated[int, pydantic.Field(strict=True)]] = {}
    spent_on: dict[str, NotNegative] = {}
    label: str | None = None
    origin: list[str] | None = None
    shortfalls: dict[str, str] = {}


@dataclass
class TrainingPlan:
    """The trainings of a chain on a data folder. preset: a preset's name or file. levels: from the
    top down; None: the whole chain, or with an origin the levels that play. hours: of all trainings
    together; None: `flags` (of `options.add_training_flags`) hold the steps of each. origin: the
    trained models to begin with; None: random weights.
    """

    data_dir: Path
    output_dir: Path
    preset: str = DEFAULT_PRESET
    levels: Sequence | None = None
    hours: float | None = None
    origin: BaseModels | None = None
    flags: argparse.Namespace = field(kw_only=True)

    def __post_init__(self):
        if (self.hours is None) == (self.flags.steps is None):
            raise UserError("--hours and --steps exclude each other" if self.hours else
                            "a plan needs hours, or steps")
        self.data_dir, self.output_dir = Path(self.data_dir), Path(self.output_dir)
        folders = None
        if self.origin:
            self.preset = os.fspath(self.output_dir / origin.PRESET_FILE)
            folders = [os.path.abspath(folder)
                       for folder in (self.origin.codecs, self.origin.generators)]
        self.whole = self.origin.chain if self.origin else load_preset(self.preset).chain
        sizes = self.whole.sizes
        if self.levels is None:
            self.levels = tuple(x for x in sizes if x >= self.whole.ending or not self.origin)
        self.levels = tuple(read_level(x, sizes, "--levels: ") for x in self.levels)
        if not self.levels or self.levels != sizes[: len(self.levels)]:
            chosen, known = (",".join(map(level_name, x)) for x in (self.levels, sizes))
            raise UserError(f"--levels is {chosen}; it must be the first of {known}, or several "
                            f"from the first down")
        self.state = PlanState(preset=self.preset, label=self.flags.label, origin=folders)

    @property
    def chain(self) -> ChainConfig:
        """The levels of the chain that are trained."""
        levels = [to_dict(level) for level in self.whole.levels
                  if level.level >= self.levels[-1]]
        return replace(self.whole, levels=levels,
                       end=self.whole.end if self.whole.end in self.levels else None)

    @property
    def stages(self) -> list[PlannedTraining]:
        """All trainings in order: the codecs from the top down, then the generators, then decoders:
        those of an origin's unsuitable codecs, or else the one that learns performances. Tuning
        made the decoders of suitable codecs worse.
        """
        chain, decoders = self.chain, [self.codec_of_performer] if self.codec_of_performer else []
        if self.origin:
            decoders = [name for name in chain.codecs.values() if self.state.shortfalls.get(name)]
        codecs = [] if self.origin else [*chain.codecs.values()]
        return [*(PlannedTraining("codec", name) for name in codecs),
                *(PlannedTraining("generator", name) for name in chain.generators.values()),
                *(PlannedTraining("codec", name, decoder_only=True) for name in decoders)]

    @property
    def open_stages(self) -> list[PlannedTraining]:
        """The unfinished trainings. With hours, each training runs once; with steps, each continues
        up to its steps. A codec whose codes are in use is no longer trained.
        """
        def steps_of(stage):
            whole_codec = stage.role == "codec" and not stage.decoder_only
            return 1 if whole_codec and self.codes_in_use(stage.name) else self.flags.steps or 1

        return [stage for stage in self.stages
                if self.state.finished.get(stage.key, 0) < steps_of(stage)]

    @property
    def codec_of_performer(self) -> str | None:
        """The codec whose decoder learns performances of scores, or None."""
        return self.chain.codecs[self.chain.top] if SCORE in self.chain.generators else None

    def codes_in_use(self, codec: str) -> bool:
        """Whether a generator's training on the codec's codes has begun, at the codec's level or at
        the next level below.
        """
        sizes, generators = self.chain.sizes, self.chain.generators
        at = list(self.chain.codecs.values()).index(codec)
        readers = [generators[x] for x in sizes[at: at + 2] if x in generators]
        return any(self.state.finished.get(name)
                   or (self.output_dir / f"{name}.state.npz").exists() for name in readers)

    def settings(self, stage: PlannedTraining, seconds: float | None = None
                 ) -> options.TrainingSettings:
        """The settings of one training. seconds: its time; None trains for the steps."""
        performs = stage.decoder_only and stage.name == self.codec_of_performer
        start_from, changes = self.output_dir if performs else None, {}
        if performs:
            defaults = load_preset(self.preset).trainings[stage.name]
            changes = {"performer": self.output_dir,
                       "learning_rate": self.flags.learning_rate or defaults.learning_rate / 2,
                       "input_length": self.flags.input_length or defaults.input_length // 2}
        elif self.origin:
            start_from = self.origin.folder_of(stage.name)
        if stage.role == "codec":
            takes_labels = not load_preset(self.preset).codec(stage.name).has_codes
        else:
            takes_labels = stage.name != self.whole.generators.get(SCORE)
        return options.read_settings(
            self.flags, stage.role, preset=self.preset, name=stage.name, config=None,
            output_dir=self.output_dir, val_split=self.split, start_from=start_from,
            decoder_only=stage.decoder_only,
            label=self.flags.label if takes_labels else None,
            minutes=None if seconds is None else max(0.01, round(seconds / 60, 2)), **changes)

    def seconds(self, stage: PlannedTraining, among: list[PlannedTraining]) -> float:
        """The seconds left for a training: its share of all open trainings' time, less its own."""
        total, spent_on = self.hours * 3600, self.state.spent_on
        left = (total - min(ENDING, total / 6) - self.state.spent
                + sum(spent_on.get(other.key, 0.0) for other in among))
        part = left * stage.share / sum(other.share for other in among)
        return max(0.0, part - spent_on.get(stage.key, 0.0))

    def top_setting(self, field: str):
        """A field of the top generator's `TrainingConfig`, unless a flag sets it."""
        defaults = load_preset(self.preset).trainings[self.whole.generator(self.whole.top)]
        value = getattr(self.flags, field)
        return getattr(defaults, field) if value is None else value

    @property
    def split_file(self) -> Path:
        """The file of the held-out tracks, for the trainings and for other commands."""
        return self.output_dir / splits.SPLIT_FILE

    @functools.cached_property
    def split(self) -> Split:
        """The held-out tracks: named by `--val-split`, or a share that is drawn once."""
        return self._read_split(lambda line: None)

    def keep_split(self, say: Callable[[str], None]):
        """Save the held-out tracks, and print a line if they differ from `--val-split`."""
        self.split = self._read_split(say)
        # All processes of a distributed training write the same file, and read it.
        splits.save(self.output_dir, self.split)

    def _read_split(self, say) -> Split:
        val_split = self.flags.val_split
        split = DataConfig().split if val_split is None else options.parse_split(val_split)
        if isinstance(split, Split):
            return split
        tracks, path = manifest.read(self.data_dir), self.split_file
        kept, gone = splits.load(self.output_dir, tracks) or (None, [])
        if kept and not kept.held_out_tracks:
            raise UserError(f"{path}: none of the held-out tracks is in {self.data_dir}; use "
                            f"another --output-dir, or remove that file to draw others")
        if gone:
            say(f"{len(gone)} of the held-out tracks are no longer in {self.data_dir}, such as "
                f"{printable(gone[0])}")
        if kept and val_split is not None:
            say(f"--val-split {split:g} is ignored: the held-out tracks stay those of {path}")
        seed = TrainingConfig().seed if self.flags.seed is None else self.flags.seed
        trained_on = self.origin.trained_on if self.origin else ()
        return kept or splits.draw(tracks, split, seed, trained_on)

    @functools.cached_property
    def corpus_size(self) -> CorpusSize:
        """The amount of music in the data folder."""
        return CorpusSize.of(self.data_dir, self.split, self.origin.trim_silence)

    def read(self):
        """Read the state of an earlier run into the same folder. Raises `UserError` if the file is
        no plan, or if the folder holds models of another plan.
        """
        path = self.output_dir / PLAN_FILE
        if not path.exists():
            return
        content: dict[str, Any] = load_yaml(path)
        content.pop("schema", None)
        try:
            saved = PlanState.model_validate(content)
        except pydantic.ValidationError as e:
            key = ".".join(map(str, e.errors()[0]["loc"]))
            raise UserError(f"{path}: is not a plan that `{cli.command('train')}` wrote ({key}); "
                            f"remove it to begin a new one") from e
        differences = {"start": (saved.origin, self.state.origin)}
        if not self.origin:
            differences["preset"] = saved.preset, self.preset
        if saved.finished:
            differences["label"] = saved.label, self.flags.label
        for what, values in differences.items():
            if values[0] != values[1]:
                old, new = (" and ".join(value) if isinstance(value, list) else value or "none"
                            for value in values)
                raise UserError(f"{self.output_dir}: holds models of a training with {what} {old}, "
                                f"not {new}; use another --output-dir")
        self.state = saved.model_copy(update={"preset": self.preset, "label": self.flags.label})

    def write(self):
        """Save the state. Of several processes, only the first one writes."""
        if not devices.is_first():
            return
        self.output_dir.mkdir(parents=True, exist_ok=True)
        values = {"schema": SCHEMA} | self.state.model_dump(exclude_none=True)
        values["spent"] = round(self.state.spent, 1)
        write_yaml(self.output_dir / PLAN_FILE, values)

    def spend(self, seconds: float, stage: PlannedTraining | None = None):
        """Add to the time spent, in all and on a training, and save both."""
        self.state.spent += seconds
        if stage:
            spent = self.state.spent_on.get(stage.key, 0.0) + seconds
            self.state.spent_on[stage.key] = round(spent, 1)
        self.write()


def format_hours(seconds: float) -> str:
    """3725 -> `1 h 02 min`, 90 -> `1.5 min`."""
    minutes = round(seconds / 60)
    return (f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60
            else f"{seconds / 60:.1f} min")
