"""Whatever a saved state holds, a stream continues from it or refuses it in one line."""

import contextlib
import math

import numpy as np
import pytest
from chains import save_led
from test_controls import CODES, PAST, WILD, Sounding, leaning, perform
from test_label_mixing import chain as labelled
from test_stream import BLOCK, IntegerCodec, IntegerGenerator, start

from vqwave import config as configs
from vqwave.data.scores import LOWEST_PITCH, Score
from vqwave.errors import UserError
from vqwave.play import api
from vqwave.play.prompt import Prompt
from vqwave.play.stream import Stream


def steered():
    """The state of a stream in which every field has a value, and its engines."""
    parts = leaning()
    given = {512: np.full(6 * BLOCK // 512, 5, np.int32), 128: np.zeros(6 * BLOCK // 128, np.int32)}
    begin = Prompt(given, np.full(6 * BLOCK, 0.1, np.float32), keep_original=True,
                   pitches={512: np.eye(CODES, 12, dtype=np.float32)[None]}, stay=0.75)
    stream = start(parts, begin=begin, seed=3, batch=2, log_probs=True, past=PAST, ahead=0.02,
                   samples=40 * BLOCK, music=Sounding(parts), leveling=True)
    changes = [(1, {"loudness": -6.0, "transpose": 3, "sampling": WILD}),
               (2, {"notes": [60, 64], "pull": 4.0, "stay": 0.5}),
               (3, {"freeze": BLOCK / 22050, "mutate": 0.3}), (4, {"hold": 2 * BLOCK / 22050})]
    perform(stream, changes, 5)
    stream.set(hold=BLOCK / 22050)
    return stream.state(), lambda state: Stream.resume(state, *parts)


def with_labels():
    parts = labelled()
    stream = start(parts, seed=3, label="calm")
    next(stream)
    stream.set(label="dance")
    next(stream)
    return stream.state(), lambda state: Stream.resume(state, *parts)


def led(shared):
    root = shared("led by a score", save_led)
    return api.load(root / "codecs", root / "generators", engine="onnx-float32")


def with_a_score(shared):
    music = led(shared)
    with music.stream(seed=3) as stream:
        stream.set(tempo=150, density=1.5, key="D-minor")
        next(stream)
        parts = stream.codec, stream._engines.generators
        composer = stream._engines.composer
        return stream.state(), lambda state: Stream.resume(state, *parts, composer=composer)


@pytest.fixture(scope="module", params=["steered", "labels", "score"])
def saved(request):
    """A genuine state, and a function that continues from a state."""
    if request.param == "score":
        return with_a_score(request.getfixturevalue("shared"))
    return steered() if request.param == "steered" else with_labels()


def damaged(value):
    """Values in place of a genuine one: of wrong types and shapes, NaN, huge, negative."""
    numbers = [math.nan, math.inf, -1, 0, 10**9, -(10**30), 2.0**60, True, "x", "\0" * 300, "9" * 9000, b"\xff",
               np.zeros(3), np.array(["a"])]
    if not isinstance(value, np.ndarray):
        return numbers
    limits = [np.finfo(value.dtype).max, np.nan] if value.dtype.kind == "f" else [np.iinfo(value.dtype).max]
    return [*numbers, *(np.full_like(value, x) for x in (*limits, -1, 0, 2**20)), value[..., None], value[:0],
            value[..., :0], np.concatenate([value, value]), value.T, value.astype(str), value.astype(np.float16),
            value.astype(complex), -value]


def refusals(saved, choose) -> tuple[int, list[str]]:
    """How many damaged states are refused, and the fields of those that play on. choose: of the
    values of `damaged` and of None, which removes the field.
    """
    (state, resume), refused, taken = saved, 0, []
    for name, value in state.items():
        for other in choose([*damaged(value), None]):
            harmed = {key: x for key, x in state.items() if key != name}
            if other is not None:
                harmed[name] = other
            try:
                with resume(harmed) as stream:
                    next(stream, None)
                    taken.append(name)
            except UserError as e:
                refused += 1
                assert "\n" not in str(e), str(e)
    return refused, taken


def test_a_field_of_a_state_is_taken_or_refused_in_one_line(saved):
    state, resume = saved
    with resume(state) as stream:
        assert next(stream).size
    random = np.random.default_rng(0)
    refused, taken = refusals(saved, lambda values: random.choice(np.array(values, object), random.integers(2)))
    assert refused > 3 * len(taken), taken


@pytest.mark.large
def test_every_damage_to_a_state_is_taken_or_refused_in_one_line(saved):
    refused, taken = refusals(saved, lambda values: values)
    assert refused > 3 * len(taken), taken


@pytest.mark.parametrize("name, value", [
    ("options.block", 10**9), ("chain.blocks", 10**9), ("chain.levels.0.first", 1024 * 10**6),
    ("chain.levels.1.first", 1024 * 10**6), ("chain.score.tempo", 1e30),
    ("playback.held", 99), ("chain.seed", -1), ("steering.density", 1e9)])
def test_a_position_that_would_play_without_end_is_refused(saved, name, value):
    state, resume = saved
    if name not in state:
        pytest.skip("a field of a score")
    with pytest.raises(UserError, match="saved state is damaged|block is 1000000000"):
        resume(state | {name: value})


def refuse(saved, words, **changes):
    state, resume = saved
    assert changes.keys() <= state.keys(), state.keys()
    with pytest.raises(UserError, match=words) as caught:
        resume(state | changes)
    assert "\n" not in str(caught.value)


def test_values_that_no_stream_reaches_together_are_refused():
    saved = steered()
    refuse(saved, "playback.past does not fit", **{"options.past": BLOCK / 22050})
    refuse(saved, "the position of level 512 does not fit", **{"chain.levels.0.first": 50})
    saved = with_labels()
    share = np.full_like(saved[0]["chain.label"], 0.5)
    refuse(saved, "chain.label does not fit", **{"chain.label": share})
    refuse(saved, "chain.levels.0.labels.after does not fit", **{"chain.levels.0.labels.after": share})


def test_a_score_whose_beats_begin_before_the_sound_is_taken(shared):
    beats = np.arange(-1.0, 5.0)
    tune = Score(beats[2:], beats[2:] + 0.5, LOWEST_PITCH + np.arange(4), np.zeros(4, int), np.zeros(0),
                 np.zeros(0, int), beats)
    with led(shared).stream(seed=3, begin=tune, intro=True) as stream:
        parts = stream.codec, stream._engines.generators
        again = Stream.resume(stream.state(), *parts, composer=stream._engines.composer)
        np.testing.assert_array_equal(next(again), next(stream))


class Counting(IntegerGenerator):
    """A transformer, whose memory counts frames."""

    def __init__(self, level):
        super().__init__(level)
        core = {"kind": "transformer", "layers": 1, "width": 8, "heads": 1, "window": 4}
        self.config = configs.replace(self.config, core=core)

    def initial_state(self, batch):
        return [np.zeros((batch, *shape), np.float32) for shape in self.config.states.values()]

    def sample(self, context, uniforms, previous, state, *_, **__):
        return np.zeros(uniforms.shape, np.int32), None, state


@pytest.mark.parametrize("count, refused", [(7, False), (8, True), (-1, True)])
def test_a_transformer_never_reads_beside_its_table(count, refused):
    parts = IntegerCodec(512), [Counting(512)]
    state = start(parts, seed=1).state()
    assert state["chain.levels.0.memory.0"].shape == (1, 1)
    state["chain.levels.0.memory.0"][:] = count
    with pytest.raises(UserError, match="memory, count") if refused else contextlib.nullcontext():
        assert next(Stream.resume(state, *parts)).size


def test_a_torn_file_is_refused_in_one_line(tmp_path, saved):
    state, resume = saved
    path = tmp_path / "state.npz"
    np.savez(path, **state)
    content = bytearray(path.read_bytes())
    place = content.index(b"\x93NUMPY")
    content[place : place + 40] = bytes(40)
    path.write_bytes(content)
    with np.load(path) as file, pytest.raises(UserError, match="saved state is damaged") as caught:
        resume(file)
    assert "\n" not in str(caught.value)
