"""Chains of any levels, with random weights: small presets, written and saved as a trained chain
is."""

from types import SimpleNamespace

import keras
import numpy as np
import yaml

from vqwave import config as configs
from vqwave.io import weights
from vqwave.nn.codec import Codec
from vqwave.nn.generator import Generator


def quantizer(books=1):
    """64 codes; residual where there are several books."""
    small = {"num_codes": 64, "code_dim": 8}
    return {"kind": "residual", "books": books} | small if books > 1 else {"kind": "ema"} | small


def stages(level):
    """Strides of 8 and then 4 that multiply to `level`, a power of 2 from 8 on."""
    strides = [8]
    while np.prod(strides) < level:
        strides.append(min(4, level // int(np.prod(strides))))
    return [{"stride": stride, "channels": 8, "dilations": [1]} for stride in strides]


def notes(level, books):
    """What makes a codec of `level` one of notes, a book a band."""
    return {"front_end": {"kind": "log_frequency", "hop": level},
            "encoder": {"kind": "banded", "units": 8}, "head": {"kind": "notes"},
            "quantizer": {"kind": "banded", "books": books, "num_codes": 64,
                          "code_dim": 8, "change_cost": 0.02}}


def preset(path, books, sample_rate=22050, block=8192, end=None, of_notes=()):
    """The preset of a chain, which `path` is written for. books: of a frame, by level from the top
    down. of_notes: the levels whose codecs are of notes."""
    levels = [{"level": x, "codec": f"codec-of-{x}", "generator": f"generator-of-{x}"}
              for x in books]
    tones = {"head": {"kind": "tones", "tones": 12}}
    codecs = {one["codec"]: {"stages": stages(one["level"]),
                             "quantizer": quantizer(books[one["level"]])}
              | (tones if one["level"] >= 128 else {})
              | (notes(one["level"], books[one["level"]]) if one["level"] in of_notes else {})
              for one in levels}
    core = {"core": {"embedding_dim": 8, "units": 24, "head_dim": 16}}
    above = {"conditions": [{"kind": "codes", "channels": 12, "dilations": [1, 2, 4]}]}
    generators = {one["generator"]: core | (above if i else {}) for i, one in enumerate(levels)}
    values = {"schema": 2,
              "chain": {"sample_rate": sample_rate, "block": block, "end": end, "levels": levels},
              "codecs": codecs, "generators": generators}
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return configs.preset(path)


def save_codec(folder, config):
    """Random weights of a codec; its codebooks come from latents of noise, so that most codes are
    in use."""
    codec = Codec(config)
    codec(np.random.default_rng(0).normal(0.0, 0.1, (2, 65536)).astype("float32"), training=True)
    weights.save(folder, config.name, "", codec.parts, config)


def save_generator(folder, config, spread=1.0):
    """Random weights of a generator, times `spread`: the larger, the more each code depends on
    those before it.

    What a book is told of those before it in its frame starts out so small that it would not show.
    """
    model = Generator(config)
    for variables in model.parts.values():
        for v in variables:
            v.assign(v * spread * (15.0 if v.path.startswith("before_") else 1.0))
    weights.save(folder, config.name, "", model.parts, config)


def save_chain(root, made, spread=1.0):
    """Weights of every model of a preset: `.codecs` and `.generators` are folders, `.chain` what
    lies beside them."""
    folders = SimpleNamespace(codecs=root / "codecs", generators=root / "generators",
                              chain=made.chain)
    folders.codecs.mkdir()
    folders.generators.mkdir()
    keras.utils.set_random_seed(0)
    for level in made.chain.sizes:
        save_codec(folders.codecs, made.codec(level))
        save_generator(folders.generators, made.generator(level), spread)
    weights.save_chain(folders.generators, made.chain)
    return folders
