"""The folders of weights that a studio offers, and their models, which all takes share."""

import contextlib
import functools
import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from ..errors import UserError
from ..export import export
from ..generators import GeneratorConfig
from ..io import defaults, files, weights
from ..levels import SCORE, level_name
from ..play import api
from ..play.sampling import takes
from . import limits, pictures


class Folders:
    """Folders of weights by name, with their subfolders; folders with generators come first.
    codecs: a folder for generators without their own codecs. None for either: the shipped folders.
    follow: the output folder of a running training, which comes first and plays its best sets.
    Raises `UserError` if no folder holds generators or codecs.
    """

    def __init__(self, codecs, generators, engine: str, follow=None):
        self.followed = str(follow) if follow else None
        roots = {path: Path(path) for path in filter(None, [self.followed])}
        roots |= defaults.generators(generators)
        if codecs is not None and not weights.chain(codecs).can_generate:
            roots, codecs = roots | {str(codecs): Path(codecs)}, None
        self.codecs, self.engine = defaults.codecs(codecs), engine
        playing, codecs_only = _find(roots)
        self.paths: dict[str, Path] = playing | codecs_only
        self.playing = tuple(playing)
        if self.followed and self.followed not in playing:
            raise UserError(f"{files.printable(self.followed)}: holds no generators to follow yet")
        if not self.paths:
            searched = ", ".join(map(files.printable, roots))
            raise UserError(f"{searched}: no generators in there (nor in its folders), and no "
                            f"codecs; train some, or name another folder with "
                            f"--generator-weights-dir")
        self.chains = {name: weights.chain(path) for name, path in self.paths.items()}
        self._lock = threading.Lock()
        self._models: OrderedDict[tuple, FolderModels] = OrderedDict()

    @property
    def rate(self) -> int:
        """The sample rate of the first folder."""
        return next(iter(self.chains.values())).sample_rate

    def name(self, folder: str) -> str:
        """The folder's name; "" is the first. Raises `UserError` for an unknown folder."""
        folder = folder or next(iter(self.paths))
        if folder not in self.paths:
            raise UserError(f"There is no folder of weights called {folder[:80]!r} here; there are "
                            f"{', '.join(self.paths)}.")
        return folder

    def codecs_of(self, folder: str) -> Path:
        """The folder of the codecs that a folder's generators use."""
        path = self.paths[folder]
        chain = self.chains[folder]
        own = not chain.can_generate or defaults.plays_own_codecs(path, chain)
        return path if own and weights.holds(path, chain.codecs.values()) else self.codecs

    def epochs(self, folder: str) -> list[str]:
        """The tags of the generators' sets: "" for shipped weights, "best", then epochs."""
        tags = {tag for name in self.chains[folder].generators.values()
                for tag in weights.tags(self.paths[folder], name)}
        return sorted(tags, key=lambda t: (t.isdigit(), -int(t) if t.isdigit() else len(t)))

    def generators(self, folder: str) -> dict[int, GeneratorConfig]:
        return weights.generators(self.paths[folder], self.chains[folder])

    def temperatures(self, folder: str) -> dict[int, float]:
        """The generators' own temperatures, of the levels that draw one code after another."""
        configs = self.generators(folder).values()
        return {x.level: x.sampling.temperature for x in configs if takes(x, "temperature")}

    def describe(self, folder: str) -> dict:
        """The description of a folder with generators for the page."""
        chain, temperatures = self.chains[folder], self.temperatures(folder)
        labels = [list(config.labels.groups) for config in self.generators(folder).values()
                  if config.labels]
        return {"name": folder, "epochs": self.epochs(folder), "ending": chain.ending,
                "score": SCORE in chain.generators, "levels": list(chain.sizes),
                "labels": labels[0] if labels else [],
                "temperatures": {level_name(level): t for level, t in temperatures.items()}}

    def newest(self) -> str | None:
        """A token that changes when the followed training saves better weights."""
        if self.followed is None:
            return None
        times = []
        for name in self.chains[self.followed].names:
            with contextlib.suppress(OSError):  # not trained yet
                path = weights.config_path(self.paths[self.followed], name, "best")
                times.append(f"{name} {path.stat().st_mtime_ns}")
        return ",".join(times)

    def models(self, folder: str, epoch: str = "") -> "FolderModels":
        """The models of a folder and epoch, loaded again if a training has replaced them."""
        if epoch and epoch not in self.epochs(folder):
            raise UserError(f"{folder} has no epoch {epoch[:20]}.")
        tag = epoch.lstrip("0") or ("best" if folder == self.followed else None)
        music = api.load(self.codecs_of(folder), self.paths[folder], self.engine, tag)
        key = (folder, epoch, *(_checksum(music, name) for name in music.chain.names))
        with self._lock:
            models = self._models.setdefault(key, FolderModels(music))
            self._models.move_to_end(key)
            while len(self._models) > limits.MODELS_KEPT:
                self._models.popitem(last=False)
            return models


class FolderModels:
    """The models of one folder and epoch. A lock keeps two threads from loading the same graph."""

    def __init__(self, music: api.VQWave):
        self.music = music
        self.score = functools.lru_cache(limits.SCORES_KEPT)(music.score)
        """`VQWave.score` of a recording, which takes seconds, so the last scores are kept."""
        self._lock = threading.Lock()
        self._ready: set = set()
        self._shades: dict[int, list[list[int]]] = {}

    def prepare(self, new: tuple[int, ...], encode: tuple[int, ...], report):
        """Load the generators of the levels `new` and the codecs of the levels `encode`."""
        with self._lock, export.listen(lambda: report("Converting the new models, once; this "
                                                      "takes a minute or two")):
            if new and new not in self._ready:
                self._generate_sample(new)
            for level in {*encode} - self._ready:
                codec = self.music.codec(level)
                codec.decode(codec.encode(np.zeros((1, level), np.float32)))
            self._ready |= {new, *encode}

    def _generate_sample(self, levels: tuple[int, ...]):
        """Generate one sample, which runs every graph."""
        chain, begin = self.music.chain, None
        if levels[0] != chain.top:
            above = chain.sizes[chain.sizes.index(levels[0]) - 1]
            begin = self.music.source(np.full(above, 0.1, np.float32), above)
        self.music.generate(level=levels[-1], samples=1, seed=0, log_probs=True, begin=begin)

    def shades(self, level: int) -> list[list[int]]:
        """See `pictures.shades`."""
        with self._lock:
            if level not in self._shades:
                self._shades[level] = pictures.shades(self.music.codec(level))
            return self._shades[level]


def _checksum(music: api.VQWave, name: str) -> str | None:
    try:
        return music.weight_set(name).checksum
    except UserError:  # a take that needs these weights will report the error
        return None


def plays(folder) -> bool:
    """Whether a folder holds all generators that its chain needs."""
    chain = weights.chain(folder)
    if not chain.can_generate:
        return False
    return all(weights.holds(folder, [chain.generator(level)])
               for level in chain.generated(chain.ending))


def _find(roots: dict[str, Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    """(folders with a top generator, folders with codecs only) among `roots` and subfolders."""
    playing, codecs_only = {}, {}
    for name_of_root, root in roots.items():
        inside = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        for path in [root, *inside]:
            chain = weights.chain(path)
            name = name_of_root if path == root else str(Path(name_of_root) / path.name)
            if chain.can_generate and weights.holds(path, [chain.generator(chain.top)]):
                playing[name] = path
            elif weights.holds(path, chain.codecs.values()):
                codecs_only[name] = path
    return playing, codecs_only
