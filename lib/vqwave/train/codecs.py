"""The codecs of the codes that a generator learns. This module does not load Keras."""

import shlex

from .. import cli
from ..errors import UserError
from ..generators import GeneratorConfig
from ..io import weights
from ..levels import ChainConfig


def find_all(model: GeneratorConfig, folder, epoch=None, chain: ChainConfig | None = None,
             preset: str = "") -> list[weights.WeightSet]:
    """The codecs of a generator's level and of the level above, if any.

    Args:
        epoch: see `weights.find`.
        chain: names the codecs; None: the chain of the folder.
        preset: the generator's preset, for the command in an error.

    Raises:
        UserError: a codec is missing, or has other codes than the generator learns.
    """
    needs = [frames for frames in (model, model.above) if frames]
    names = [_name(folder, frames.level, chain) for frames in needs]
    advice = ""
    if preset:
        trained = f"{weights.GENERATORS}/{preset if preset.isidentifier() else 'NAME'}"
        commands = " and ".join(
            f"`{cli.command('train-codec')} --preset {shlex.quote(preset)} --model {name} "
            f"--data-dir DIR --output-dir {trained}`" for name in names)
        advice = (f". {model.name} of preset {preset} needs the codecs of this preset: train them "
                  f"with {commands}, and add --vqvae-weights-dir {trained}")
    sets = []
    for frames, name in zip(needs, names, strict=True):
        if not weights.tags(folder, name):
            raise UserError(f"{folder}: no weights of {name}{advice}")
        weight_set = weights.find(folder, name, epoch)
        weight_set.config.check_codes(model.name)
        for key in ("num_codes", "books"):
            expected = getattr(frames, key, own := getattr(weight_set.config, key))
            if own != expected:
                above = "" if frames is model else "the level above: "
                raise UserError(f"{model.name}: {above}{key} is {expected}, but {name} "
                                f"in {folder} has {own}{advice}")
        sets.append(weight_set)
    return sets


def _name(folder, level: int, chain: ChainConfig | None) -> str:
    """The name of the codec of a level: in `chain`, or in the folder's chain if only that codec has
    weights.
    """
    names = [named.codecs[level] for named in (chain, weights.chain(folder))
             if named and level in named.codecs]
    if not names:
        raise UserError(f"{folder}: its {weights.CHAIN} names no codec of level {level}")
    return next((name for name in names if weights.tags(folder, name)), names[0])
