"""Checks a saved state before a stream continues from it. Values that no stream reaches would end
in errors of NumPy and ONNX Runtime, or in loops without end.
"""

import itertools

import numpy as np

from ..config.roll import BANDS
from ..data import melody
from ..errors import UserError, check_name, check_number
from . import controls
from .blocks import Block, Playback
from .chain import Chain, ChainState, Engines, Options
from .changes import SECTION_REQUESTS, check_block
from .controls import CONTROLS
from .engine import check_chain
from .labels import known_labels
from .level import BufferState, LevelState, Steering
from .pitches import HomePitches
from .sampling import check_seed
from .score import ScoreState

FAR = 2**53
"""The last sample or frame of a piece."""
LARGEST = 2.0**24
"""The largest magnitude of a float in an array."""
SLOWEST, FASTEST = 1.0, 1000.0
"""The range of a score's own tempo, in beats per minute."""


def _number(name: str, value, least=0, most=FAR):
    check_number(f"the saved state is damaged: {name}", value, least, most)


def _require(fits, name: str):
    if not fits:
        raise UserError(f"the saved state is damaged: {name} does not fit its other values")


def _array(name: str, array: np.ndarray, dtype, *shape: int | None, least=-LARGEST,
           most=LARGEST):
    """Raises `UserError` for another dtype or shape (None: any length), or for a number that is not
    in least … most. None for both: also numbers that are not finite.
    """
    fits = (array.dtype == dtype and array.ndim == len(shape)
            and all(size in (None, n) for size, n in zip(shape, array.shape, strict=True)))
    if not fits:
        raise UserError(f"the saved state is damaged: {name} is {array.dtype} "
                        f"{list(array.shape)}, not {dtype} {list(shape)}")
    # Comparisons with NaN are false.
    if array.size and least is not None and not (array.min() >= least and array.max() <= most):
        raise UserError(f"the saved state is damaged: {name} holds {array.min()} … {array.max()}; "
                        f"it must hold {least} … {most}")


def check_values(engines: Engines, options: Options, chain: ChainState, steering: Steering,
                 playback: Playback):
    """Raises `UserError` if types, shapes or ranges differ from those of a stream with these
    engines.
    """
    configs, batch = engines.configs, options.batch or 1
    source = configs[0].source if configs else None
    check_chain(engines.codec, engines.generators, source.level if source and chain.source else 0)
    check_block(options.block, configs)
    _number("options.batch", batch, 1)
    _number("options.past", options.past, 0, controls.MOST_PAST)
    for name in ("samples", "ahead"):
        _number(f"options.{name}", getattr(options, name) or 0)
    books = {config.level: (config.books, config.num_codes) for config in configs}
    _check_chain(engines, options, chain, batch)
    _check_steering(steering, books)
    if source:
        books[source.level] = source.books, source.num_codes
    _check_playback(playback, options, batch, books)
    kept = round(options.past * engines.codec.config.sample_rate / options.block)
    _require(len(playback.past) <= kept, "playback.past")


def _check_chain(engines: Engines, options: Options, chain: ChainState, batch: int):
    configs, codec = engines.configs, engines.codec
    labels = known_labels(configs).names
    width = len(labels) + 1 if any(config.labels for config in configs) else 0
    check_seed("the saved state is damaged: chain.seed", chain.seed)
    _require((chain.label is None) == (not width), "chain.label")
    if width:
        _check_shares("chain.label", chain.label, batch, width)
    _require(len(chain.levels) == len(configs), "chain.levels")
    for i, (state, generator) in enumerate(zip(chain.levels, engines.generators, strict=True)):
        _check_level(f"chain.levels.{i}", state, generator, batch, options.log_probs)
    if chain.source:
        above = configs[0].source
        _check_codes("chain.source", chain.source, above.books, above.num_codes, batch, False)
    _require((chain.score is None) == (engines.composer is None), "chain.score")
    if chain.score:
        _check_score(chain.score, engines.composer, batch, options.log_probs)
    for name in ("prompt_samples", "blocks", "decoded"):
        _number(f"chain.{name}", getattr(chain, name))
    if chain.memory is not None:
        _require(codec.splits, "chain.memory")
        _array("chain.memory", chain.memory, "float32", batch, codec.memory_size)
    if chain.original is not None:
        _array("chain.original", chain.original, "float32", chain.prompt_samples)
    if chain.tail is not None:
        _array("chain.tail", chain.tail, "float32", batch, None)


def _check_codes(name: str, state: BufferState, books: int, codes: int, batch: int,
                 log_probs: bool):
    _array(f"{name}.codes", state.codes, "int32", batch, None, books, least=0, most=codes - 1)
    _number(f"{name}.first", state.first)
    _require((state.log_probs is not None) == log_probs, f"{name}.log_probs")
    if log_probs:
        _array(f"{name}.log_probs", state.log_probs, "float32", *state.codes.shape, least=None)


def _check_level(name: str, state: LevelState, generator, batch: int, log_probs: bool):
    config = generator.config
    books, codes = config.books, config.num_codes
    _check_codes(name, state, books, codes, batch, log_probs)
    _array(f"{name}.previous", state.previous, "int32", batch, books, least=0,
           most=config.start_token)
    _array(f"{name}.prompt", state.prompt, "int32", None, books, least=0, most=codes - 1)
    _array(f"{name}.loop", state.loop, "int32", batch, None, books, least=0, most=codes - 1)
    _array(f"{name}.rest", state.rest, "int64", batch, least=0, most=FAR)
    _number(f"{name}.loop_start", state.loop_start)
    rows = batch * (1 + config.is_guided(state.sampling))
    _require(config.labels or state.sampling.guidance == 1, f"{name}.sampling")
    initial = generator.initial_state(rows)
    _require(len(state.memory) == len(initial), f"{name}.memory")
    for part, array, zeros in zip(config.states, state.memory, initial, strict=False):
        # A transformer reads a table at its count.
        most = 2 * config.core.window - 1 if config.core.kind == "transformer" else LARGEST
        least, most = (0, most) if part == "count" else (-LARGEST, LARGEST)
        _array(f"{name}.memory, {part}", array, "float32", *zeros.shape, least=least, most=most)
    labels = config.labels
    _require((state.labels is None) == (labels is None), f"{name}.labels")
    if labels:
        for part in ("before", "after"):
            _check_shares(f"{name}.labels.{part}", getattr(state.labels, part), batch,
                          len(labels.names) + 1)
        for part in ("begin", "end"):
            _number(f"{name}.labels.{part}", getattr(state.labels, part))
    if state.home:
        _check_home(f"{name}.home", state.home, books, codes)


def _check_home(name: str, home: HomePitches, books: int, codes: int):
    _array(f"{name}.scores", home.scores, "float32", books, codes)
    _number(f"{name}.begin", home.begin)
    _number(f"{name}.half", home.half, 1e-3)


def _check_shares(name: str, shares: np.ndarray, batch: int, width: int):
    """The shares of labels in each piece, see `labels.read_labels`."""
    _array(name, shares, "float64", batch, width, least=0, most=1)
    _require(np.allclose(shares.sum(axis=1), 1), name)


def _check_score(score: ScoreState, composer, batch: int, log_probs: bool):
    _check_level("chain.score", score, composer, batch, log_probs)
    stop, books = score.first + score.codes.shape[1], composer.config.books
    for name, times, count in (("times", score.times, score.codes.shape[1] + 1),
                               ("grid", score.grid, None)):
        _array(f"chain.score.{name}", times, "int64", count, least=-FAR, most=FAR)
        _require(len(times) and (np.diff(times) >= 0).all(), f"chain.score.{name}")
    if score.tempo or score.codes.size:
        _number("chain.score.tempo", score.tempo, SLOWEST, FASTEST)
    for name, steps in (("sections", score.sections), ("began", [score.began]),
                        ("until", [score.until])):
        for step in steps:
            _number(f"chain.score.{name}", step)
    _require(score.theme in (-1, *score.sections), "chain.score.theme")
    _array("chain.score.line", score.line, "int64", batch, melody.ORDER, 2, least=-1, most=FAR)
    _require((score.line[..., 0] <= stop).all() and (score.line[..., 1] < books - BANDS).all(),
             "chain.score.line")


def _check_steering(steering: Steering, books: dict[int, tuple[int, int]]):
    for name in ("mutate", "pull", "stay", "tempo", "density"):
        check_number(f"the saved state is damaged: steering.{name}", getattr(steering, name),
                     **CONTROLS[name].bounds)
    _require(len(steering.notes) <= controls.MOST_NOTES, "steering.notes")
    for note in steering.notes:
        _number("steering.notes", note, 0, 127)
    _require(steering.powers.keys() <= books.keys(), "steering.powers")
    for level, powers in steering.powers.items():
        _array(f"steering.powers.{level}", powers, "float32", *books[level], 12, least=0)
    _require(len(steering.key) in (0, 12), "steering.key")
    for share in steering.key:
        _number("steering.key", share, 0, 1)
    if steering.section:
        check_name("section in the saved state", steering.section, SECTION_REQUESTS)


def _check_playback(playback: Playback, options: Options, batch: int,
                    books: dict[int, tuple[int, int]]):
    for name in ("blocks", "since"):
        _number(f"playback.{name}", getattr(playback, name))
    _number("playback.held", playback.held, 0, len(playback.past))
    if playback.held:  # a jump leaves the index of the last hold
        _number("playback.place", playback.place, 0, playback.held - 1)
    _require(not playback.held or playback.following, "playback.following")
    for block in itertools.chain(playback.past, filter(None, [playback.following])):
        _check_block(block, options, batch, books)
    if playback.passing is not None:
        _array("playback.passing", playback.passing, "float32", batch, None)
    for name in ("before", "decibel"):
        _number(f"playback.gain.{name}", getattr(playback.gain, name), controls.QUIETEST,
                controls.LOUDEST)
    _require((playback.leveler is None) == (not options.leveling), "playback.leveler")
    if leveler := playback.leveler:
        for name, dtype, least in (("power", "float64", 1e-300), ("seconds", "float64", 1e-300),
                                   ("gain", "float32", 0)):
            _array(f"playback.leveler.{name}", getattr(leveler, name), dtype, batch, least=least)
        _number("playback.leveler.target", leveler.target, -100, 0)
        _number("playback.leveler.most", leveler.most, 0, 100)
        _number("playback.leveler.begins", leveler.begins)


def _check_block(block: Block, options: Options, batch: int, books: dict[int, tuple[int, int]]):
    _array("a block's audio", block.audio, "float32", batch, options.block)
    _require(block.codes.keys() == books.keys(), "a block's codes")
    _require((block.log_probs is not None) == options.log_probs, "a block's log_probs")
    for level, codes in block.codes.items():
        _array("a block's codes", codes, "int32", batch, None, books[level][0], least=0,
               most=books[level][1] - 1)
        _require(codes.shape[1] <= options.block // level, "a block's codes")
    for level, log_probs in (block.log_probs or {}).items():
        _require(level in books, "a block's log_probs")
        _array("a block's log_probs", log_probs, "float32", *block.codes[level].shape, least=None)


def check_transposer(state: dict[str, np.ndarray], fresh: dict[str, np.ndarray]):
    """Raises `UserError` if a transposer with the state `fresh` cannot continue from `state`."""
    _require(state.keys() == fresh.keys(), "transposer")
    for name, array in state.items():
        _array(f"transposer.{name}", array, fresh[name].dtype, *fresh[name].shape)
    semitones, rate = state["transpose"]
    _number("transposer.transpose", semitones, *CONTROLS["transpose"].bounds.values())
    _number("transposer.transpose", rate, 0.5, 2)


def check_positions(chain: Chain):
    """Raises `UserError` if a level is far behind another level, or behind the decoder: the next
    block would have to make all the music between.
    """
    state, bottom, block = chain.state, chain.bottom, chain.options.block
    for above, level in itertools.pairwise(chain._buffers):
        _require(level.stop * level.level <= above.stop * above.level + block,
                 f"the position of level {level.level}")
    for level in [*chain.levels, *filter(None, [chain.composer])]:
        _require(level.stop % level.per_block == 0, f"the position of level {level.level}")
    top = chain.levels[0]
    if chain.composer and top.stop:
        _require(top.stop * top.level <= chain.composer.state.times[-1] + block,
                 "the position of the score")
    ready = max(bottom.stop, len(bottom.state.prompt)) + 2 * bottom.per_block
    _require(state.blocks * bottom.per_block <= ready, "chain.blocks")
    if state.memory is not None:
        begin = state.blocks * bottom.per_block
        _require(state.decoded == min(begin + chain._beyond, bottom.end), "chain.decoded")
