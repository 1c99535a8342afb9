"""The folders of the weights that play where the user names none."""

import sys
from collections.abc import Iterable
from pathlib import Path

from ..levels import ChainConfig
from ..presets import DEFAULT_PRESET, Preset
from . import weights
from .files import CHECKOUT, printable

_noted: set[str] = set()


def folder(name: str) -> Path:
    """The folder of this name in the working folder if it can play, otherwise that of the shipped
    weights. A line on stderr names what the first one lacks.
    """
    own, shipped = Path(name), CHECKOUT / name
    if not shipped.is_dir() or own.resolve() == shipped.resolve():
        return own
    chain = weights.chain(own)
    models = (chain.codecs.values() if name == weights.CODECS
              else [x for level, x in chain.generators.items() if level >= chain.top])
    missing = [model for model in models if not weights.tags(own, model)]
    if models and not missing:
        return own
    if len(missing) < len(models) or weights.holds(own, chain.names):
        note(f"{own}: lacks {', '.join(missing)}, so {shipped} plays")
    return shipped


def generators(named: Iterable | None = None) -> dict[str, Path]:
    """The paths of the folders that the user named, by name; None: that of the shipped generators.
    """
    return ({weights.GENERATORS: folder(weights.GENERATORS)} if named is None
            else {str(name): Path(name) for name in named})


def codecs(named=None) -> Path:
    """The folder that the user named; None: that of the shipped codecs."""
    return folder(weights.CODECS) if named is None else weights.existing_folder(named)


def folders(codecs=None, generators=None, preset: Preset | None = None,
            epoch: int | str | None = None) -> tuple[Path, Path]:
    """The folders of codecs and of generators. None: the default weights, or `weights/NAME` of a
    preset; the codecs are those in the generators' folder, if the generators were trained on them.
    A VAE has only one folder. epoch: see `weights.find`.
    """
    def chain_of(folder):
        return weights.chain(folder) if preset is None else preset.chain

    if generators is None and codecs is not None and not chain_of(codecs).generators:
        generators = codecs
    if generators is None and preset is not None:
        own = Path(weights.GENERATORS) / Path(preset.name).stem
        shipped = preset.name == DEFAULT_PRESET and not own.is_dir()
        generators = None if shipped else own
    generators = folder(weights.GENERATORS) if generators is None else Path(generators)
    if codecs is None:
        chain = chain_of(generators)
        codecs = generators if (
            not chain.generators or plays_own_codecs(generators, chain, epoch)
            or preset is not None and not weights.holds(generators, chain.generators.values())
            ) else folder(weights.CODECS)
    return Path(codecs), generators


def plays_own_codecs(folder, chain: ChainConfig, epoch: int | str | None = None) -> bool:
    """Whether a folder's generators were trained on the codecs beside them, or, if they record no
    codecs, all codecs of their levels are there. A line on stderr names codecs that do not play.
    """
    own = [name for name in chain.codecs.values() if weights.tags(folder, name)]
    if not own:
        return False
    for level, name in chain.generators.items():
        learned_from = weights.record(folder, name, epoch).get("codecs") or {}
        codec = chain.codecs.get(level)
        if codec in learned_from:
            own_record = weights.record(folder, codec)
            run, _, _ = (own_record.get("codes_of") or f"{own_record.get('id')}:").rpartition(":")
            if run == learned_from[codec].rpartition(":")[0]:
                return True
            reason = f"{name} was not trained with"
            break
    else:
        levels = [x for x, name in chain.generators.items() if weights.tags(folder, name)]
        missing = [codec for level, codec in chain.codecs.items()
                   if level in levels and codec not in own]
        if not missing:
            return True
        reason = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing beside"
    note(f"{folder}: {reason} its {', '.join(own)}, so the codecs of {weights.CODECS} play")
    return False


def note(line: str):
    """Print a line to stderr, once."""
    if line not in _noted:
        _noted.add(line)
        print(printable(line), file=sys.stderr, flush=True)
