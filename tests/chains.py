"""Small chains of any levels with random weights, saved like trained ones."""

from types import SimpleNamespace

import keras
import numpy as np
from reference import keep_likeliest

from vqwave.codecs.codec_layer import Codec
from vqwave.generators import Sampling
from vqwave.generators.composer import BANDS
from vqwave.generators.generator_layer import Generator
from vqwave.io import weights
from vqwave.levels import SCORE, dump_yaml, load_yaml, replace, to_dict
from vqwave.play.sampling import loop_settings
from vqwave.presets import load_preset


def quantizer(books=1):
    small = {"num_codes": 64, "code_dim": 8}
    return {"kind": "residual", "books": books} | small if books > 1 else {"kind": "ema"} | small


def stages(level):
    """Strides that multiply to `level`: of a power of 2 from 8 on, 8 and then at most 4."""
    strides, most = [], 8
    while (rest := level // int(np.prod(strides, dtype=int))) > 1:
        strides.append(max(stride for stride in range(2, most + 1) if rest % stride == 0))
        most = 8 if level & (level - 1) else 4
    return [{"stride": stride, "channels": 8, "dilations": [1]} for stride in strides]


def notes(level, books):
    """The parts of a notes codec of `level`, with one book for each band."""
    return {"front_end": {"kind": "log_frequency", "hop": level},
            "stages": [{"stride": level, "channels": 8, "dilations": [1]}],
            "encoder": {"kind": "banded", "units": 8},
            "head": {"kind": "source_filter", "hop": min(level, 256), "width": 16, "dilations": [1, 2]},
            "quantizer": {"kind": "banded", "books": books, "num_codes": 64,
                          "code_dim": 8}}


def preset(path, books, sample_rate=22050, block=8192, end=None, of_notes=()):
    """The preset of a chain, written to `path`. books: of a frame, by level, top first."""
    levels = [{"level": x, "codec": f"codec-of-{x}", "generator": f"generator-of-{x}"}
              for x in books]
    tones = {"head": {"kind": "tones", "tones": 12}}
    codecs = {f"codec-of-{level}": {"stages": stages(level), "quantizer": quantizer(count)}
              | (tones if level >= 128 else {})
              | (notes(level, count) if level in of_notes else {})
              for level, count in books.items()}
    core = {"core": {"embedding_dim": 8, "units": 24, "head_dim": 16}}
    above = {"conditions": [{"kind": "codes", "channels": 12, "dilations": [1, 2, 4]}]}
    generators = {f"generator-of-{level}": core | (above if i else {})
                  for i, level in enumerate(books)}
    values = {"schema": 2,
              "chain": {"sample_rate": sample_rate, "block": block, "end": end, "levels": levels},
              "codecs": codecs, "generators": generators}
    path.write_text(dump_yaml(values), encoding="utf-8")
    return load_preset(path)


def save_codec(folder, config):
    """Random weights of a codec; codebooks from latents of noise, so that most codes are in use."""
    codec = Codec(config)
    codec(np.random.default_rng(0).normal(0.0, 0.1, (2, 65536)).astype("float32"), training=True)
    weights.save(folder, config.name, "", codec.parts, config)


def save_generator(folder, config, spread=1.0):
    """Random weights of a generator, times `spread`: the larger, the more a code depends on earlier
    codes.

    The inputs from earlier books of the frame (`before_`) start too small to have an effect.
    """
    model = Generator(config)
    for variables in model.parts.values():
        for v in [] if isinstance(variables, dict) else variables:
            v.assign(v * spread * (15.0 if v.path.startswith("before_") else 1.0))
    if config.core.learns == "scores":
        strikes = np.full((len(PARTS), config.books - BANDS), 0.1, np.float32)
        strikes[:2, :6], strikes[2, -6:] = 100, 100  # rain is low, wind is high
        strikes[1, 6:9] = 50
        model.corpus["part_strikes"] = strikes
        # Rain is soft, wind is loud.
        model.corpus["part_loudness"] = np.array([[300, 30, 3, 1], [100, 10, 3, 1], [1, 3, 30, 300]], np.float32)
    weights.save(folder, config.name, "", model.parts, config)


def save_levels(folder, chain, count=1):
    """Save the first levels of a chain beside weights."""
    levels = [to_dict(level) for level in chain.levels[:count]]
    weights.save_chain(folder, replace(chain, levels=levels, end=None))


PARTS = "rain/01", "rain/02", "wind/01"
COMPOSER = {"level": SCORE, "books": 20, "num_codes": 6,
         "core": {"kind": "roll", "units": 6, "head_dim": 8, "below": 4, "memory": 64}}


def with_score(preset, path):
    """The chain of a preset led by a score, written to `path`."""
    values = load_yaml(preset.name)
    top = values["chain"]["levels"][0]["generator"]
    values["chain"]["levels"].insert(0, {"level": "score", "generator": "score"})
    values["generators"] |= {"score": COMPOSER}
    values["generators"][top]["conditions"] = [
        {"kind": "score", "books": 20, "channels": 8, "dilations": [1, 2]},
        {"kind": "labels", "of": "part", "names": [*PARTS], "channels": 4}]
    path.write_text(dump_yaml(values), encoding="utf-8")
    return load_preset(path)


def save_chain(root, preset, spread=1.0):
    """Random weights of a preset's models: folders `.codecs` and `.generators`, and `.chain`."""
    folders = SimpleNamespace(codecs=root / "codecs", generators=root / "generators", chain=preset.chain)
    folders.codecs.mkdir()
    folders.generators.mkdir()
    keras.utils.set_random_seed(0)
    for level in preset.chain.sizes:
        save_codec(folders.codecs, preset.codec(level))
        save_generator(folders.generators, preset.generator(level), spread)
    if SCORE in preset.chain.generators:
        save_generator(folders.generators, preset.generator(SCORE))
    weights.save_chain(folders.generators, preset.chain)
    return folders


def save_led(folder):
    """A chain of two levels that a score leads."""
    plain = preset(folder / "plain.yml", {512: 1, 128: 1})
    save_chain(folder, with_score(plain, folder / "led.yml"), spread=3.0)


def distribution(logits, settings=Sampling()):  # noqa: B008
    """The probabilities of codes as `Sampling` settings draw them: [..., codes]."""
    from keras import ops

    inverse, top_k, top_p = loop_settings(settings)
    scaled = np.asarray(logits, np.float32) * inverse
    return np.asarray(ops.softmax(keep_likeliest(scaled, top_k, top_p)))
