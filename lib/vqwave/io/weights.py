"""Weights on disk: file names, atomic writing, checksums, loading with a check against the config.

A *set* is the files of one codec or generator plus the YAML that describes them:

    NAME_{encoder,decoder,codebook}[_TAG].weights.h5     NAME[_TAG].yml     of a codec
    NAME_{generator,context}[_TAG].weights.h5            NAME[_TAG].yml     of a generator

TAG is an epoch (`00010`), `best`, or absent: the set that ships. The YAML holds the whole run
(model, training, data), its record and each file's sha256. It is written last, so a set without it
was never finished. Files are HDF5 with one dataset a variable. `chain.yml` describes the chain.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import h5py
import numpy as np

from .. import cli
from .. import config as configs
from ..errors import UserError
from .files import CHECKOUT, atomic_write

CHAIN = "chain.yml"
UNKNOWN = "unknown"
"""In the YAML of a set: how or on what it was trained was not recorded."""
PARTS = {"codec": ("encoder", "decoder", "codebook"), "generator": ("generator", "context")}

CODECS = "final_weights"
GENERATORS = "weights"
"""The folders of the shipped weights, in the working folder or else in this checkout."""


class WeightsError(UserError):
    """A weights file or set that cannot be used; names the file, and the layer where there is one.
    """


def parts_of(config: configs.CodecConfig | configs.GeneratorConfig) -> tuple[str, ...]:
    """The files of a set of this model, by part."""
    if isinstance(config, configs.GeneratorConfig) and not config.conditions:
        return ("generator",)
    return PARTS[config.kind]


def find_folder(folder, shipped: str) -> Path:
    """`folder`; where that is `shipped`, a default, and there are no weights of its kind in it
    here, the checkout's own.

    A folder `weights` that training made, say, holds codecs alone: the generators are the shipped
    ones.
    """
    own, part = CHECKOUT / shipped, PARTS["codec" if shipped == CODECS else "generator"][0]
    if str(folder) != shipped or any(Path(folder).glob(f"*_{part}*.weights.h5")):
        return Path(folder)
    same = own.resolve() == Path(folder).resolve()
    return own if own.is_dir() and not same else Path(folder)


def folders(codecs=None, generators=None,
            preset: configs.Preset | None = None) -> tuple[Path, Path]:
    """The folders of codecs and generators that are meant.

    Args:
        codecs, generators: either, None where it is not said: then it is what ships, or of a preset
            `weights/NAME`, with the shipped codecs where only generators were trained there. A
            chain without generators, a VAE, lies in one folder, which either names.
    """
    def stands_alone(folder):
        return not (chain(folder) if preset is None else preset.chain).generators

    if generators is None and codecs is not None and stands_alone(codecs):
        generators = codecs
    if generators is None and preset is not None:
        own = Path(GENERATORS) / Path(preset.name).stem
        generators = own if own.is_dir() or preset.name != configs.SHIPPED else None
    generators = find_folder(GENERATORS if generators is None else generators, GENERATORS)
    if codecs is None:
        own_codecs = stands_alone(generators) or preset is not None and (
            holds(generators, preset.chain.codecs.values())
            or not holds(generators, preset.chain.generators.values()))
        codecs = generators if own_codecs else CODECS
    return find_folder(codecs, CODECS), generators


def holds(folder, names: Iterable[str]) -> bool:
    """Whether there are weights of one of these models in a folder."""
    return any(tags(folder, name) for name in names)


def weights_path(folder, name: str, part: str, tag: str = "") -> Path:
    return Path(folder) / f"{name}_{part}{'_' + tag if tag else ''}.weights.h5"


def config_path(folder, name: str, tag: str = "") -> Path:
    return Path(folder) / f"{name}{'_' + tag if tag else ''}.yml"


def epoch_tag(epoch: int) -> str:
    return f"{epoch:05d}"


def sha256(path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


class Record(configs.Config):
    """What a training noted down of a set.

    codecs: by name the run and step of each codec whose codes a generator learnt; codes_of: those
    of the encoder whose codes a codec makes. beginning: the validation loss before the first step.
    tracks: the first digits of each training track's sha256, of the codecs' tracks as well.
    held_out: what a codec was measured to do on held-out tracks.
    """

    epoch: configs.Whole = 0
    step: configs.Whole = 0
    seed: configs.Whole = 0
    id: configs.Text = ""
    validation_loss: configs.Real = 0.0
    beginning: configs.Real = 0.0
    codecs: dict[configs.Text, configs.Text] = {}
    codes_of: configs.Text = ""
    tracks: tuple[configs.Text, ...] | Literal["unknown"] = UNKNOWN
    held_out: dict[configs.Text, configs.Real | None] = {}

    def to_dict(self) -> dict:
        """The keys that the file has; tracks that are unknown are left out."""
        values = self.model_dump(mode="json", exclude_unset=True)
        return {key: value for key, value in values.items() if value != UNKNOWN}


@dataclass(frozen=True)
class WeightSet:
    """A whole set found on disk, its checksums verified.

    record: what training noted down, see `Record`. training, data: how and on what it was trained,
    None where that is unknown.
    """

    folder: Path
    name: str
    tag: str
    config: configs.CodecConfig | configs.GeneratorConfig
    files: dict[str, Path]
    checksum: str
    record: dict
    training: configs.TrainingConfig | None = None
    data: configs.DataConfig | None = None

    @property
    def trim_silence(self) -> float | None:
        """How much silence was left at the ends of the tracks that it was trained on."""
        return (self.data or configs.DataConfig()).trim_silence

    @property
    def trained_on(self) -> set[str] | None:
        """The first 16 digits of the sha256 of every track that it, its codecs or what it began
        with were trained on; None where that is unknown.
        """
        tracks = self.record.get("tracks")
        return None if tracks is None else {digits[:16] for digits in tracks}

    def unseen(self, tracks) -> list:
        """Those of some tracks that it was not trained on, as far as its record tells."""
        known = self.trained_on
        return [] if known is None else [t for t in tracks if t.sha256[:16] not in known]

    @property
    def tag_phrase(self) -> str:
        """One phrase for the user: which of a folder's sets this is."""
        if self.tag in ("", "best"):
            shipped = self.folder.resolve().parent == CHECKOUT
            return ("the best set" if self.tag else "the shipped set" if shipped
                    else "the set without a number")
        return f"epoch {self.tag.lstrip('0') or '0'}"

    @property
    def summary(self) -> str:
        """One line for the user: what was taken, and from where."""
        return f"{self.name}: {self.tag_phrase} in {self.folder}"

    @property
    def codes_id(self) -> str:
        """Which codes a codec makes, whatever its decoder and its precision: the run and the step
        its encoder is of.
        """
        if "codes_of" in self.record:
            return self.record["codes_of"]
        return (f"{self.record['id']}:{self.record.get('step')}" if "id" in self.record
                else self.checksum[:16])

    @property
    def encoding_checksum(self) -> str:
        """A checksum of what encoding depends on: the config's shapes and the values of encoder and
        codebook, whatever their precision on disk.
        """
        keys = ("sample_rate", "front_end", "stages", "block")
        shapes = {key: configs.to_dict(self.config)[key] for key in keys}
        # Later axes only where they are not what all codecs were before there was a choice.
        for axis in ("encoder", "padding", "bottleneck", "hierarchy", "labels"):
            if getattr(self.config, axis) != configs.CodecConfig.model_fields[axis].default:
                shapes[axis] = configs.to_dict(self.config)[axis]
        quantizer = self.config.quantizer
        shapes["quantizer"] = {k: v for k, v in configs.to_dict(quantizer).items()
                               if k not in quantizer.training_only}
        made = hashlib.sha256(json.dumps(shapes, sort_keys=True).encode())
        for part in ("encoder", "codebook"):
            for path, values in sorted(self.load(part).items()):
                made.update(json.dumps([part, path, values.shape]).encode())
                made.update(np.ascontiguousarray(values, np.float32).tobytes())
        return made.hexdigest()

    def load(self, part: str) -> dict[str, np.ndarray]:
        """float32 arrays of one file by variable path."""
        return read_arrays(self.files[part])

    def codebooks(self) -> list[np.ndarray]:
        """The codebooks of a codec, float32 [num_codes, code_dim] each, in their order; none where
        its codes are no vectors that are looked up.
        """
        arrays = self.load("codebook")
        # By the numbers in their names: book_10 comes after book_2.
        def numbers(path):
            return [int(n) for n in re.findall(r"\d+", path)]

        return [arrays[path] for path in sorted(arrays, key=numbers)]

    def codebooks_of_frame(self) -> list[np.ndarray]:
        """For each code of a frame its codebook; none where there are none."""
        books = self.codebooks()
        return [books[k] for k in self.config.codebook_of] if books else []


def describe(sets) -> list[str]:
    """What was taken, and from where: one line for all sets of which the same is to be said."""
    alike = {}
    for one in sets:
        alike.setdefault(one.tag_phrase, []).append(one)
    lines = []
    for which, those in alike.items():
        folders = dict.fromkeys(str(one.folder) for one in those)
        lines.append(f"{', '.join(one.name for one in those)}: {which} in {' and '.join(folders)}")
    return lines


def read_arrays(path) -> dict[str, np.ndarray]:
    """Every dataset of an HDF5 file as float32. Links out of the file are refused, as is what is no
    number.
    """
    arrays = {}

    def walk(group, prefix):
        for key in group:
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise WeightsError(f"{path}: {prefix}{key} is a link, which a weights file may not "
                                   f"hold")
            item = group[key]
            if isinstance(item, h5py.Group):
                walk(item, f"{prefix}{key}/")
                continue
            if (not isinstance(item, h5py.Dataset) or item.external or item.is_virtual
                or item.dtype.kind != "f"):
                raise WeightsError(f"{path}: {prefix}{key} is not an array of floats held in the "
                                   f"file")
            # Without its bytes an array would be filled up with zeros, however large it says it is.
            if item.id.get_storage_size() != item.nbytes:
                raise WeightsError(f"{path}: {prefix}{key} says it has {item.nbytes} bytes, and "
                                   f"has {item.id.get_storage_size()}")
            arrays[f"{prefix}{key}"] = item[()].astype(np.float32)

    try:
        with h5py.File(path, "r") as f:
            walk(f, "")
    except (OSError, RuntimeError, KeyError, ValueError, RecursionError) as e:
        raise WeightsError(f"{path}: cannot be read as a weights file: {e}") from e
    bad = [key for key, array in arrays.items() if not np.isfinite(array).all()]
    if bad:
        raise WeightsError(f"{path}: {bad[0]} holds numbers that are not finite")
    return arrays


def write_arrays(path, arrays: dict[str, np.ndarray]):
    """One dataset an array, atomically."""
    with atomic_write(path) as file, h5py.File(file, "w") as f:
        for key, array in arrays.items():
            f.create_dataset(key, data=array)


def assign(variables, arrays: dict[str, np.ndarray], path):
    """Set Keras variables from `arrays` by path.

    Raises:
        WeightsError: names the file, the layer, and the two shapes that differ.
    """
    for v in variables:
        if v.path not in arrays:
            raise WeightsError(f"{path}: has no layer {v.path}, which its config asks for")
        if tuple(v.shape) != arrays[v.path].shape:
            raise WeightsError(
                f"{path}: layer {v.path} has shape {arrays[v.path].shape} in the file, "
                f"{tuple(v.shape)} by its config"
            )
    extra = set(arrays) - {v.path for v in variables}
    if extra:
        raise WeightsError(f"{path}: holds a layer {min(extra)} that its config does not ask for")
    for v in variables:
        v.assign(arrays[v.path])


def save(folder, name: str, tag: str, parts: dict[str, list], config, record=None,
         dtype="float32", training=None,
         data=None):
    """Write a set. The YAML goes last and makes it whole.

    Args:
        parts: Keras variables, or arrays by path, by part.
        config: the model; record, training, data: what else the YAML holds, see `WeightSet`.
    """
    folder = Path(folder)
    written = {}
    for part, variables in parts.items():
        arrays = (variables if isinstance(variables, dict)
                  else {v.path: to_numpy(v) for v in variables})
        with np.errstate(over="ignore"):
            written[part] = {key: np.asarray(array).astype(dtype) for key, array in arrays.items()}
        # As they will be written: what float32 holds may be too large for float16.
        bad = [key for key, array in written[part].items() if not np.isfinite(array).all()]
        if bad:
            raise WeightsError(f"{name}: {bad[0]} is not finite in {dtype}; nothing was written")
    files = {}
    for part, arrays in written.items():
        path = weights_path(folder, name, part, tag)
        write_arrays(path, arrays)
        files[part] = sha256(path)
    described = {"schema": configs.SCHEMA, "model": configs.to_dict(config),
                 **{key: configs.to_dict(value) if value else UNKNOWN
                    for key, value in (("training", training), ("data", data))},
                 "record": {"tracks": UNKNOWN} | (record or {}), "sha256": files}
    with atomic_write(config_path(folder, name, tag)) as f:
        f.write(configs.dump_yaml(described).encode())


def to_numpy(variable) -> np.ndarray:
    """What a Keras variable holds; where it is mirrored on several devices, the first of them."""
    return np.asarray(variable.numpy())


def tags(folder, name: str) -> list[str]:
    """The tags of the sets that have a YAML in `folder`: epochs in order, then `best`, then `` if
    one ships.
    """
    found = []
    if Path(folder).is_dir():
        for path in Path(folder).iterdir():
            match = re.fullmatch(rf"{re.escape(name)}(?:_(\d{{5,}}|best))?\.yml", path.name)
            if match:
                found.append(match[1] or "")
    return sorted(found, key=lambda t: (not t.isdigit(), t == "", t))


def generators(folder, chain: configs.ChainConfig) -> dict[int, configs.GeneratorConfig]:
    """The generators of a chain in a folder by their levels, as the files beside them say; the sets
    themselves are not read.
    """
    found = {}
    for level, name in chain.generators.items():
        for tag in tags(folder, name)[-1:]:
            with contextlib.suppress(configs.ConfigError):
                values = configs.load_yaml(config_path(folder, name, tag))
                model = configs.validate_model(values.get("model"), name)
                if isinstance(model, configs.GeneratorConfig):
                    found[level] = model
    return found


def chain(folder, preset: configs.Preset | None = None) -> configs.ChainConfig:
    """The chain of the generators in `folder`: what its `chain.yml` says, else the preset's, and
    without a preset levels named as in `compact`: the upper ones whose generators are there, or all
    four.

    Raises:
        WeightsError: it is neither the preset's nor the upper levels of that.
    """
    path = Path(folder) / CHAIN
    if preset is not None:
        return _check_chain(chain(folder), path, preset) if path.exists() else preset.chain
    default = configs.to_dict(configs.preset("compact").chain)
    if not path.exists():
        there = [bool(tags(folder, level["generator"])) for level in default["levels"]]
        upper = there.index(False) if False in there else len(there)
        levels = default["levels"][: None if any(there[upper:]) else upper or None]
        return configs.validate(configs.ChainConfig, default | {"levels": levels, "end": None})
    values = configs.load_yaml(path)
    if set(values) - {"schema"} != {"chain"}:
        raise WeightsError(f"{path}: must hold the keys schema and chain")
    return configs.validate(configs.ChainConfig, values["chain"], os.fspath(path))


def _check_chain(found: configs.ChainConfig, path: Path,
                 preset: configs.Preset) -> configs.ChainConfig:
    """`found`. Raises `WeightsError` where it is another chain than the preset's."""
    whole = preset.chain
    if (found.sample_rate, found.levels) != (whole.sample_rate, whole.levels[: len(found.levels)]):
        raise WeightsError(f"{path}: has {found.summary}, but preset {preset.name} has "
                           f"{whole.summary}")
    return found


def save_chain(folder, chain: configs.ChainConfig):
    """Write `chain.yml` beside the generators."""
    text = configs.dump_yaml({"schema": configs.SCHEMA, "chain": configs.to_dict(chain)})
    with atomic_write(Path(folder) / CHAIN) as f:
        f.write(text.encode())


def add_chain(folder, described: configs.ChainConfig):
    """`save_chain` in a folder that says nothing of its models yet and would be taken for another
    chain's: so that models that are trained one by one are found.
    """
    if (Path(folder) / CHAIN).exists():
        return
    assumed = chain(folder)
    alike = (assumed.sample_rate, assumed.codecs) == (described.sample_rate, described.codecs)
    if not alike and not holds(folder, assumed.names):
        save_chain(folder, described)


def epochs(folder, name: str) -> list[int]:
    return [int(t) for t in tags(folder, name) if t.isdigit()]


def find(folder, name: str, epoch: int | str | None = None) -> WeightSet:
    """The set of that epoch, or the best, or (None) the one that ships and, where none does, the
    best.

    A `best` torn by a crash while it was replaced is taken from the numbered set it was copied
    from.

    Raises:
        WeightsError: names what is missing and what there is, or the file whose checksum is not the
            recorded one.
    """
    folder = Path(folder)
    there = tags(folder, name)
    if epoch is None:
        wanted = "" if "" in there else "best"
    elif epoch == "best":
        wanted = "best"
    else:
        try:
            wanted = epoch_tag(int(epoch))
        except ValueError as e:
            raise WeightsError(f"epoch is {epoch!r}; it must be a number or 'best'") from e
    if wanted not in there:
        if not folder.is_dir():
            raise WeightsError(f"{folder}: no such folder, so no weights of {name}")
        have = ", ".join("one without a number" if t == "" else t.lstrip("0") or "0" for t in there)
        what = ("no weights" if epoch is None else "no best set" if epoch == "best"
                else f"no epoch {epoch}")
        have = f"there are: {have}" if have else "there are none at all"
        raise WeightsError(f"{folder}: {what} of {name}; {have}")
    try:
        return _open(folder, name, wanted)
    except WeightsError:
        if wanted != "best":
            raise
        source = _source_of_best(folder, name)
        if source is None:
            raise
        return source


def _source_of_best(folder: Path, name: str) -> WeightSet | None:
    """The numbered set that the best one was copied from, where both have the same record."""
    with contextlib.suppress(UserError, KeyError):
        values = configs.load_yaml(config_path(folder, name, "best"))["record"]
        record = configs.validate(Record, values)
        source = _open(folder, name, epoch_tag(record.epoch))
        if source.record == record.to_dict():
            return source
    return None


def find_trained(folder, name: str, preset: configs.Preset,
                 epoch: int | str | None = None) -> WeightSet:
    """As `find`, of a model that was trained as this preset.

    Raises:
        WeightsError: also where it is of other kinds than the preset's; where there is none, it
            says what trains it.
    """
    expected = preset.model(name)
    if not tags(folder, name):
        flag = "--vqvae-weights-dir" if expected.kind == "codec" else "--generator-weights-dir"
        train = (f"{cli.command('train')} --data-dir DIR --preset {shlex.quote(preset.name)} "
                 f"--output-dir {shlex.quote(str(folder))}")
        raise WeightsError(f"{folder}: no weights of {name}, of preset {preset.name}: `{train}` "
                           f"trains them; {flag} names another folder")
    found = find(folder, name, epoch)
    for axis in type(expected).model_fields:
        ours, theirs = (getattr(getattr(one, axis, None), "kind", None)
                        for one in (expected, found.config))
        if None not in (ours, theirs) and ours != theirs:
            raise WeightsError(f"{config_path(folder, name, found.tag)}: {name} has a {axis} of "
                               f"{theirs}, but in preset {preset.name} it has one of {ours}")
    return found


def _open(folder: Path, name: str, tag: str) -> WeightSet:
    path = config_path(folder, name, tag)
    try:
        values = configs.load_yaml(path)
        # Before the rest, so that a file of another program is not called a model of no kind.
        if not {"model", "record", "sha256"} <= set(values):
            raise WeightsError(f"{path}: is not the description of a weights set (keys model, "
                               f"record and sha256)")
        config = configs.validate_model(values["model"], os.fspath(path))
        training, data = (
            None if values.get(key, UNKNOWN) == UNKNOWN
            else configs.validate(kind, values[key], f"{path}: {key}")
            for kind, key in ((configs.TrainingConfig, "training"), (configs.DataConfig, "data")))
        record = configs.validate(Record, values["record"], f"{path}: record")
    except configs.ConfigError as e:
        raise WeightsError(str(e)) from e
    if config.name != name:
        raise WeightsError(f"{path}: describes {config.name}, not {name}")
    files = _check_files(path, values["sha256"], {part: weights_path(folder, name, part, tag)
                                                  for part in parts_of(config)})
    # Without what is at its default, so that a field that a later version adds changes no checksum.
    identity = json.dumps([config.model_dump(mode="json", exclude_defaults=True), values["sha256"]],
                          sort_keys=True).encode()
    return WeightSet(folder, name, tag, config, files, hashlib.sha256(identity).hexdigest(),
                     record.to_dict(), training, data)


def _check_files(path: Path, sums, files: dict[str, Path]) -> dict[str, Path]:
    """`files`. Raises `WeightsError` where they are not those that the YAML at `path` names."""
    if not isinstance(sums, dict) or set(sums) != set(files):
        raise WeightsError(f"{path}: sha256 must name the parts {', '.join(files)}")
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
    """Make the best set the one without a number, as float16; returns a line that says so."""
    copy_set(find(folder, name, "best"), folder, "", "float16")
    return (f"{name}: the best set now stands without a number in {folder} (float16) and is "
            "loaded by default")


def copy_as_best(source: WeightSet, folder) -> WeightSet:
    """Copy `source`, bit for bit, as the best set of another folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [(path, weights_path(folder, source.name, part, "best"))
             for part, path in source.files.items()]
    # The YAML goes last and makes it whole.
    for path, copy in [*pairs, (config_path(source.folder, source.name, source.tag),
                                config_path(folder, source.name, "best"))]:
        with atomic_write(copy) as f:
            f.write(path.read_bytes())
    return find(folder, source.name, "best")


def add_to_record(found: WeightSet, **values):
    """Add to what the YAML of a set records. The weights, and their checksum, stay as they are."""
    path = config_path(found.folder, found.name, found.tag)
    described = configs.load_yaml(path)
    described["record"] = (described.get("record") or {}) | values
    with atomic_write(path) as f:
        f.write(configs.dump_yaml(described).encode())


def copy_set(source: WeightSet, folder, tag: str, dtype="float32"):
    """Write `source` again under another folder, tag or dtype, without building a model."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {part: source.load(part) for part in source.files}
    save(folder, source.name, tag, arrays, source.config, source.record,
         dtype, source.training, source.data)
