"""Weights on disk: file names, atomic writing, checksums, loading with checks against the config.

A *set* is the files of one codec or generator plus the YAML that describes them:

    NAME_{encoder,decoder,codebook}[_TAG].weights.h5     NAME[_TAG].yml     of a codec
    NAME_{generator,context}[_TAG].weights.h5            NAME[_TAG].yml     of a generator
    NAME_{generator,corpus}[_TAG].weights.h5             NAME[_TAG].yml     of a score

    graphs.tar.xz                                        the ONNX graphs of the sets that ship

TAG is an epoch (`00010`) or `best`. The set without a tag is the default: the shipped set, or a
promoted one. The YAML holds the settings of the run (model, training, data), its record and the
sha256 of each file. The YAML is written last, so a set without it is unfinished. Files are HDF5
with one dataset per variable. `chain.yml` describes the chain.
"""

import contextlib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import h5py
import numpy as np

from .. import cli
from ..codecs import CodecConfig
from ..errors import UserError
from ..generators import GeneratorConfig, validate_model
from ..levels import ChainConfig, Config, DataConfig, TrainingConfig, fields
from ..presets import Preset, load_preset
from . import copied
from .files import CHECKOUT, atomic_write, make_folder, printable, sha256, write_yaml

CHAIN, GRAPHS = "chain.yml", "graphs.tar.xz"
"""`export/packing.py` writes the archive of graphs."""
UNKNOWN = "unknown"
"""Settings, data or tracks that were not recorded, in a YAML file."""
WEIGHT_PARTS = {"codec": ("encoder", "decoder", "codebook"), "generator": ("generator", "context")}
CODECS = "final_weights"
GENERATORS = "weights"
"""The folders of the shipped weights, in the working folder or in this checkout."""


class WeightsError(UserError):
    """A weights file or set cannot be used. The message names the file, and the layer if any."""


def parts_of(config: CodecConfig | GeneratorConfig) -> tuple[str, ...]:
    """The parts of a set of this model, each in its own file."""
    if isinstance(config, GeneratorConfig) and not config.conditions:
        return ("generator", "corpus") if config.core.learns == "scores" else ("generator",)
    return WEIGHT_PARTS[config.kind]


def existing_folder(folder) -> Path:
    """`folder` as a path. Raises `UserError` if there is no such folder."""
    if not Path(folder).is_dir():
        raise UserError(f"{printable(folder)}: no such folder")
    return Path(folder)


def holds(folder, names: Iterable[str]) -> bool:
    """Whether a folder has weights of at least one of these models."""
    return any(tags(folder, name) for name in names)


def weights_path(folder, name: str, part: str, tag: str = "") -> Path:
    return Path(folder) / f"{name}_{part}{'_' + tag if tag else ''}.weights.h5"


def config_path(folder, name: str, tag: str = "") -> Path:
    return Path(folder) / f"{name}{'_' + tag if tag else ''}.yml"


def graphs_path(folder) -> Path:
    """The archive of graphs for the sets in a folder: there, or in `GENERATORS` beside it."""
    own = Path(folder) / GRAPHS
    return own if own.exists() else Path(folder).parent / GENERATORS / GRAPHS


def epoch_tag(epoch: int) -> str:
    return f"{epoch:05d}"


class Record(Config):
    """The record of a training about its weights.

    codecs: by name, `codes_id` of each codec whose codes a generator was trained on. codes_of: run
    and step of a codec's encoder. beginning: the validation loss before the first step. tracks: the
    first digits of each training track's sha256, including the codecs' tracks. held_out:
    measurements of a codec on held-out tracks.
    """

    epoch: fields.Whole = 0
    step: fields.Whole = 0
    seed: fields.Whole = 0
    id: fields.Text = ""
    validation_loss: fields.Real = 0.0
    beginning: fields.Real = 0.0
    codecs: dict[fields.Text, fields.Text] = {}
    codes_of: fields.Text = ""
    tracks: tuple[fields.Text, ...] | Literal["unknown"] = UNKNOWN
    held_out: dict[fields.Text, fields.Real | None] = {}

    def to_dict(self) -> dict:
        """The keys of the YAML; unknown tracks are left out."""
        values = self.model_dump(mode="json", exclude_unset=True)
        return {key: value for key, value in values.items() if value != UNKNOWN}


@dataclass(frozen=True)
class WeightSet:
    """A complete set on disk, whose checksums are verified.

    files: the weights files by part; a wheel has only the codebooks and a score's corpus. record:
    the fields of `Record` that training wrote. training, data: None if unknown. graphs: the sha256
    of the archive with the set's graphs, as the YAML lists it; "" if there is no archive. origin:
    of a set that was copied by hand (see `copied`), the YAML file of the original.
    """

    folder: Path
    name: str
    tag: str
    config: CodecConfig | GeneratorConfig
    files: dict[str, Path]
    checksum: str
    record: dict
    training: TrainingConfig | None = None
    data: DataConfig | None = None
    graphs: str = ""
    origin: Path | None = None

    @property
    def yaml(self) -> Path:
        """The YAML file that describes the set."""
        return self.origin or config_path(self.folder, self.name, self.tag)

    @property
    def played_as(self) -> str:
        """The checksum of the weights and of the graphs, the key of all that is cached from graphs.
        """
        return f"{self.checksum}{self.graphs}"

    @property
    def trim_silence(self) -> float | None:
        """Seconds of silence that training left at the ends of its tracks."""
        return (self.data or DataConfig()).trim_silence

    @property
    def trained_on(self) -> set[str] | None:
        """The first 16 digits of the sha256 of every training track, including those of the codecs
        and of the initial weights; None if unknown.
        """
        tracks = self.record.get("tracks")
        return None if tracks is None else {digits[:16] for digits in tracks}

    def unseen(self, tracks) -> list:
        """The tracks that the model was not trained on; [] if its training tracks are unknown."""
        known = self.trained_on
        return [] if known is None else [t for t in tracks if t.sha256[:16] not in known]

    @property
    def tag_phrase(self) -> str:
        """Which of a folder's sets this is, as words in a message."""
        if self.origin:
            tag = self.origin.stem.removeprefix(f"{self.name}_")
            return f"a copy of {_tag_words(tag)} in {self.origin.parent}"
        if self.tag:
            return _tag_words(self.tag)
        shipped = self.folder.resolve().parent == CHECKOUT
        return "the shipped set" if shipped else "the default set"

    @property
    def summary(self) -> str:
        return f"{self.name}: {self.tag_phrase} in {self.folder}"

    @property
    def codes_id(self) -> str:
        """The run and step of a codec's encoder, which identify its codes."""
        run = (f"{self.record['id']}:{self.record.get('step')}" if "id" in self.record
               else self.checksum[:16])
        return self.record.get("codes_of", run)

    @property
    def encoding_checksum(self) -> str:
        """A checksum of everything that encoding depends on: fields of the config, and encoder and
        codebook as float32.
        """
        values = fields.to_dict(self.config)
        parts = {key: values[key] for key in ("sample_rate", "front_end", "stages", "block")}
        # Default values are left out, so that a new axis changes no checksum.
        for axis in ("encoder", "padding", "bottleneck", "hierarchy", "labels"):
            if getattr(self.config, axis) != CodecConfig.model_fields[axis].default:
                parts[axis] = values[axis]
        parts["quantizer"] = {k: v for k, v in values["quantizer"].items()
                              if k not in self.config.quantizer.training_only}
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
        for part in ("encoder", "codebook"):
            for path, array in sorted(self.load(part).items()):
                digest.update(json.dumps([part, path, array.shape]).encode())
                digest.update(array.tobytes())
        return digest.hexdigest()

    def load(self, part: str) -> dict[str, np.ndarray]:
        """float32 arrays of one file by variable path."""
        return read_arrays((self if part in self.files else self.require_weights()).files[part])

    def require_weights(self) -> Self:
        """This set. Raises `WeightsError` if a wheel has only the graphs of the set."""
        if set(self.files) != set(parts_of(self.config)):
            raise WeightsError(f"{self.name}: the wheel has only its graphs, which play with "
                               f"--engine onnx; the weights, for other engines and for training, "
                               f"are in VQWave's repository")
        return self

    def codebooks(self) -> list[np.ndarray]:
        """The codebooks in order, float32 [num_codes, code_dim] each; [] for a VAE."""
        arrays = self.load("codebook")
        # Gains are the last codes of a frame; book_10 comes after book_2.
        return [arrays[path] for path in sorted(
            arrays, key=lambda path: ("/gain_" in path, *map(int, re.findall(r"\d+", path))))]

    def codebook_per_code(self) -> list[np.ndarray]:
        """The codebook of each code of a frame; [] without codebooks."""
        books = self.codebooks()
        return [books[k] for k in self.config.codebook_of] if books else []


def _tag_words(tag: str) -> str:
    return f"epoch {tag.lstrip('0') or '0'}" if tag.isdigit() else "the best set"


def describe(sets) -> list[str]:
    """The names of sets and their folders: one line for all sets with the same `tag_phrase`."""
    groups: dict[str, list[WeightSet]] = {}
    for weight_set in sets:
        groups.setdefault(weight_set.tag_phrase, []).append(weight_set)
    return [f"{', '.join(x.name for x in group)}: {phrase} in "
            f"{' and '.join(dict.fromkeys(str(x.folder) for x in group))}"
            for phrase, group in groups.items()]


DEEPEST, MOST_OBJECTS = 16, 10_000
"""The deepest nesting, and the most groups and arrays, in a weights file."""


def read_arrays(path) -> dict[str, np.ndarray]:
    """Every dataset of an HDF5 file as float32, by its path. Raises `WeightsError` for anything but
    arrays of finite floats, and for arrays larger than the file.
    """
    try:
        with h5py.File(path, "r") as file:
            arrays = {name: dataset[()].astype(np.float32)
                      for name, dataset in _list_datasets(file, path).items()}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as e:
        raise WeightsError(f"{path}: cannot be read as a weights file: {e}") from e
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"{path}: {name} holds numbers that are not finite")
    return arrays


def _list_datasets(file: h5py.File, path) -> dict[str, h5py.Dataset]:
    """The datasets of an open file by path, unread, each once. No link is followed."""
    datasets, room, objects = {}, os.path.getsize(path), 0

    def visit(name, item):
        nonlocal room, objects
        objects += 1
        if not isinstance(name, str) or not name.isprintable():  # h5py gives bytes if not UTF-8
            raise WeightsError(f"{path}: the name {printable(name)} is no text")
        if name.count("/") >= DEEPEST or objects > MOST_OBJECTS:  # these take minutes to list
            raise WeightsError(f"{path}: has more than {MOST_OBJECTS} objects, or groups deeper "
                               f"than {DEEPEST}")
        if isinstance(item, h5py.Group):
            return
        # HDF5 fills missing bytes with zeros, and unpacks compressed arrays.
        if (not isinstance(item, h5py.Dataset) or item.external or item.is_virtual
                or item.dtype.kind != "f" or item.id.get_storage_size() != item.nbytes
                or item.nbytes > room):
            raise WeightsError(f"{path}: {name} is not an array of floats in the file itself")
        room -= item.nbytes
        datasets[name] = item

    file.visititems(visit)
    return datasets


def write_arrays(path, arrays: dict[str, np.ndarray]):
    """Write arrays by path to an HDF5 file."""
    with atomic_write(path) as file, h5py.File(file, "w") as f:
        for key, array in arrays.items():
            f.create_dataset(key, data=array)


def assign(variables, arrays: dict[str, np.ndarray], path):
    """Set Keras variables by path. A `WeightsError` names file, layer and both shapes."""
    for v in variables:
        if v.path not in arrays:
            raise WeightsError(f"{path}: layer {v.path} is missing")
        if tuple(v.shape) != arrays[v.path].shape:
            raise WeightsError(f"{path}: layer {v.path} has shape {arrays[v.path].shape} in the "
                               f"file, {tuple(v.shape)} by its config")
    extra = set(arrays) - {v.path for v in variables}
    if extra:
        raise WeightsError(f"{path}: unexpected layer {min(extra)}")
    for v in variables:
        v.assign(arrays[v.path])


def save(folder, name: str, tag: str, parts: dict[str, list], config, record=None,
         dtype="float32", training=None, data=None):
    """Write a set. parts: by part, Keras variables, or arrays by path. record, training, data: as
    in `WeightSet`. Raises `WeightsError` for numbers that are not finite in `dtype`.
    """
    rounded = {}
    for part, variables in parts.items():
        arrays = (variables if isinstance(variables, dict)
                  else {v.path: to_numpy(v) for v in variables})
        with np.errstate(over="ignore"):
            rounded[part] = {key: np.asarray(array).astype(dtype) for key, array in arrays.items()}
        for key, array in rounded[part].items():
            if not np.isfinite(array).all():
                raise WeightsError(f"{name}: {key} is not finite in {dtype}; nothing was written")
    checksums = {}
    for part, arrays in rounded.items():
        path = weights_path(folder, name, part, tag)
        write_arrays(path, arrays)
        checksums[part] = sha256(path)
    write_yaml(config_path(folder, name, tag), {
        "schema": fields.SCHEMA, "model": fields.to_dict(config),
        "training": fields.to_dict(training) if training else UNKNOWN,
        "data": fields.to_dict(data) if data else UNKNOWN,
        "record": {"tracks": UNKNOWN} | (record or {}), "sha256": checksums})


def to_numpy(variable) -> np.ndarray:
    """The value of a Keras variable; if it is mirrored on several devices, that of the first."""
    return np.asarray(variable.numpy())


def tags(folder, name: str) -> list[str]:
    """The tags of the sets in `folder`, each with a YAML: epochs in order, then `best`, then "" for
    the default set, which may be a copy of a numbered set.
    """
    found = copied.tagged(folder, name)
    return found if "" in found or not copied.origin(folder, name) else [*found, ""]


def generators(folder, chain: ChainConfig) -> dict[int, GeneratorConfig]:
    """The config of each generator of a chain in a folder, by level; the weights are not read."""
    models = {}
    for level, name in chain.generators.items():
        for tag in tags(folder, name)[-1:]:
            with contextlib.suppress(fields.ConfigError):
                values = fields.load_yaml(config_path(folder, name, tag))
                model = validate_model(values.get("model"), name)
                if isinstance(model, GeneratorConfig):
                    models[level] = model
    return models


def chain(folder, preset: Preset | None = None) -> ChainConfig:
    """The chain in `chain.yml`, or of the preset. Without either, the chain of the preset
    `compact`, cut to the upper levels if only they have generators.
    """
    path = Path(folder) / CHAIN
    if not path.exists():
        return _default_chain(folder) if preset is None else preset.chain
    values = fields.load_yaml(path)
    if set(values) - {"schema"} != {"chain"}:
        raise WeightsError(f"{path}: must hold the keys schema and chain")
    chain = fields.validate(ChainConfig, values["chain"], os.fspath(path))
    whole = chain if preset is None else preset.chain
    if (chain.sample_rate, chain.levels) != (whole.sample_rate, whole.levels[: len(chain.levels)]):
        raise WeightsError(f"{path}: has {chain.summary}, but preset {preset.name} has "
                           f"{whole.summary}")
    return chain


def _default_chain(folder) -> ChainConfig:
    default = fields.to_dict(load_preset("compact").chain)
    trained = [bool(tags(folder, level["generator"])) for level in default["levels"]]
    upper = trained.index(False) if False in trained else len(trained)
    levels = default["levels"][: None if any(trained[upper:]) else upper or None]
    return fields.validate(ChainConfig, default | {"levels": levels, "end": None})


def save_chain(folder, chain: ChainConfig):
    """Write `chain.yml` beside the generators."""
    write_yaml(Path(folder) / CHAIN, {"schema": fields.SCHEMA, "chain": fields.to_dict(chain)})


def add_chain(folder, described: ChainConfig):
    """`save_chain` for models that are trained one by one. Does nothing if the folder already
    describes or implies this chain, or if it has weights of another chain.
    """
    if (Path(folder) / CHAIN).exists():
        return
    assumed = chain(folder)
    if ((assumed.sample_rate, assumed.codecs) != (described.sample_rate, described.codecs)
            and not holds(folder, assumed.names)):
        save_chain(folder, described)


def epochs(folder, name: str) -> list[int]:
    return [int(t) for t in tags(folder, name) if t.isdigit()]


def _tag(epoch: int | str | None, present: list[str]) -> str:
    """The tag of an epoch, as `find` takes it, among the tags of a folder."""
    if epoch in (None, "best"):
        return "" if epoch is None and "" in present else "best"
    try:
        return epoch_tag(int(epoch))
    except ValueError as e:
        raise WeightsError(f"epoch is {epoch!r}; it must be a number or 'best'") from e


def find(folder, name: str, epoch: int | str | None = None) -> WeightSet:
    """The set of an epoch; or the best; or for None the default set, or the best if there is none.
    If a crash left `best` incomplete, the numbered set that it was copied from is returned.
    """
    folder, present = Path(folder), tags(folder, name)
    tag = _tag(epoch, present)
    if tag not in present:
        problem = _describe_missing(folder, name, epoch, present)
        raise WeightsError(printable(f"{folder}: {problem}"))
    try:
        return _open(folder, name, tag)
    except WeightsError:
        if not tag and (origin := copied.origin(folder, name)):
            return _open(folder, name, tag, origin)
        if tag == "best" and (source := _source_of_best(folder, name)):
            return source
        raise


def _describe_missing(folder: Path, name: str, epoch, present: list[str]) -> str:
    if not folder.is_dir():
        return f"no such folder, so no weights of {name}"
    if present:
        what = {None: "weights", "best": "best set"}.get(epoch, f"epoch {epoch}")
        have = (str(int(t)) if t.isdigit() else t or "the default set" for t in present)
        return f"no {what} of {name}; there are: {', '.join(have)}"
    if any(folder.glob(f"{name}_*.weights.h5")):
        return (f"no YAML file describes the weights of {name}, and the files are not copies of "
                f"one numbered set in {GENERATORS}")
    return f"no weights of {name}"


def record(folder, name: str, epoch: int | str | None = None) -> dict:
    """The record of the set that `find` returns, without a check of the files; {} without a set."""
    with contextlib.suppress(UserError, KeyError):
        tag = _tag(epoch, tags(folder, name))
        origin = None if tag else copied.origin(folder, name)
        return dict(fields.load_yaml(origin or config_path(folder, name, tag))["record"] or {})
    return {}


def _source_of_best(folder: Path, name: str) -> WeightSet | None:
    """The numbered set that the best set was copied from: both have the same record."""
    with contextlib.suppress(UserError, KeyError):
        values = fields.load_yaml(config_path(folder, name, "best"))["record"]
        record = fields.validate(Record, values)
        source = _open(folder, name, epoch_tag(record.epoch))
        if source.record == record.to_dict():
            return source
    return None


def find_trained(folder, name: str, preset: Preset, epoch: int | str | None = None) -> WeightSet:
    """`find` for a model of this preset. Raises `WeightsError` also if a part of the model is of
    another kind; for a missing model, with the command to train it.
    """
    expected = preset.models[name]
    if not tags(folder, name):
        flag = "--vqvae-weights-dir" if expected.kind == "codec" else "--generator-weights-dir"
        train = (f"{cli.command('train')} --data-dir DIR --preset {shlex.quote(preset.name)} "
                 f"--output-dir {shlex.quote(str(folder))}")
        raise WeightsError(f"{folder}: no weights of {name}, of preset {preset.name}: `{train}` "
                           f"trains them; {flag} names another folder")
    weight_set = find(folder, name, epoch)
    for axis in type(expected).model_fields:
        ours, theirs = (getattr(getattr(model, axis, None), "kind", None)
                        for model in (expected, weight_set.config))
        if None not in (ours, theirs) and ours != theirs:
            raise WeightsError(f"{config_path(folder, name, weight_set.tag)}: {name} has a {axis} "
                               f"of {theirs}, but in preset {preset.name} it has one of {ours}")
    return weight_set


def _open(folder: Path, name: str, tag: str, origin: Path | None = None) -> WeightSet:
    path = origin or config_path(folder, name, tag)
    try:
        values = fields.load_yaml(path)
        # Checked first, so that a file of another program gets a suitable message.
        if not {"model", "record", "sha256"} <= set(values):
            raise WeightsError(f"{path}: is not the description of a weights set (keys model, "
                               f"record and sha256)")
        config = validate_model(values["model"], os.fspath(path))
        training, data = (
            None if values.get(key, UNKNOWN) == UNKNOWN
            else fields.validate(kind, values[key], f"{path}: {key}")
            for kind, key in ((TrainingConfig, "training"), (DataConfig, "data")))
        record = fields.validate(Record, values["record"], f"{path}: record")
    except fields.ConfigError as e:
        raise WeightsError(str(e)) from e
    graphs = str(values.get("graphs", ""))
    if not (re.fullmatch("[0-9a-f]{64}", graphs) and graphs_path(folder).exists()):
        graphs = ""
    if config.name != name:
        raise WeightsError(f"{path}: describes {config.name}, not {name}")
    files = {part: weights_path(folder, name, part, tag) for part in parts_of(config)}
    files = _check_files(path, values["sha256"], files, needed=not graphs)
    # Default values are left out, so that a new field changes no checksum.
    identity = json.dumps([config.model_dump(mode="json", exclude_defaults=True), values["sha256"]],
                          sort_keys=True).encode()
    return WeightSet(folder, name, tag, config, files, hashlib.sha256(identity).hexdigest(),
                     record.to_dict(), training, data, graphs, origin)


def _check_files(path: Path, sums, files: dict[str, Path], needed: bool) -> dict[str, Path]:
    """The files that are there (needed: all), with the checksums `sums` of the YAML at `path`."""
    if not isinstance(sums, dict) or set(sums) != set(files):
        raise WeightsError(f"{path}: sha256 must name the parts {', '.join(files)}")
    files = {part: file for part, file in files.items() if needed or file.exists()}
    for part, file in files.items():
        try:
            actual = sha256(file)
        except OSError as e:
            raise WeightsError(f"{file}: cannot be read: {e.strerror}") from e
        if actual != sums[part]:
            raise WeightsError(f"{file}: damaged, or of another set: its checksum is not the one "
                               f"in {path.name}")
    return files


def promote(folder, name: str) -> str:
    """Copy the best set to the default set, as float16; returns a line for the user."""
    copy_set(find(folder, name, "best"), folder, "", "float16")
    return (f"{name}: the best set was copied to {folder} as the default set (float16), which is "
            f"loaded unless --epoch names another")


def copy_as_best(source: WeightSet, folder) -> WeightSet:
    """Copy `source`, bit for bit, as the best set of another folder."""
    folder = make_folder(folder)
    copies = {path: weights_path(folder, source.name, part, "best")
              for part, path in source.files.items()}
    # The YAML comes last, because it completes the set.
    for path, copy in (copies | {source.yaml: config_path(folder, source.name, "best")}).items():
        with atomic_write(copy) as file:
            file.write(path.read_bytes())
    return find(folder, source.name, "best")


def add_to_record(weight_set: WeightSet, **values):
    """Add to the record in the YAML of a set."""
    described = fields.load_yaml(weight_set.yaml)
    write_yaml(weight_set.yaml, described | {"record": (described.get("record") or {}) | values})


def copy_set(source: WeightSet, folder, tag: str, dtype="float32"):
    """Write `source` again to another folder, tag or dtype, without building a model."""
    arrays = {part: source.load(part) for part in source.files}
    save(make_folder(folder), source.name, tag, arrays, source.config, source.record,
         dtype, source.training, source.data)
