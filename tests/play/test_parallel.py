"""A piece cut into windows: the same music where nothing depends on the past, no seam where
something does."""

import threading

import numpy as np
import pytest
from test_stream import (
    BLOCK,
    CODES,
    LAYOUTS,
    LEVELS,
    PLAIN,
    IntegerCodec,
    IntegerGenerator,
    chain,
    collect,
    start,
)

import vqwave
from vqwave.errors import UserError
from vqwave.play import parallel as windows
from vqwave.play.parallel import Windows
from vqwave.play.sampling import uniforms

CROSS_FADE = round(windows.CROSS_FADE * 22050)


class Forgetful(IntegerGenerator):
    """Codes that depend on context and uniform alone, so that where a window begins cannot show."""

    def sample(self, context, uniforms, previous, state, *settings):
        seen = 0 if context is None else context @ (3 + 2 * np.arange(context.shape[2]))[:, None]
        codes = (seen + 17 * np.arange(uniforms.shape[2]) + np.floor(uniforms * 1000)) % CODES
        return codes.astype(np.int32), None, state


def forgetful(down_to, layout=PLAIN):
    return (IntegerCodec(down_to, layout[down_to]),
            [Forgetful(level, layout=layout) for level in layout if level >= down_to])


@pytest.mark.parametrize("name, level", [
    *(("plain", level) for level in LEVELS), ("books", 128), ("books", 32),
    ("books at both ends", 32),
    ("other levels", 512), ("other levels", 128), ("other ratios", 32), ("one level", 256),
])
@pytest.mark.parametrize("windows", [1, 3, 8])
def test_windows_line_up_with_the_stream(name, level, windows):
    samples, parts = 30 * BLOCK + 123, forgetful(level, LAYOUTS[name])
    whole = collect(start(parts, seed=3, samples=samples))
    cut = collect(Windows(*parts, block=BLOCK, seed=3, samples=samples, windows=windows))
    assert cut.dtype == np.float32
    np.testing.assert_allclose(cut, whole, rtol=1e-5)


@pytest.mark.parametrize("samples", [0, 1, BLOCK, 3 * BLOCK + 1, 20 * BLOCK])
@pytest.mark.parametrize("windows", [1, 2, 50])
def test_lengths_are_exact_however_short(samples, windows):
    stream = Windows(*chain(128), block=BLOCK, seed=1, samples=samples, windows=windows)
    assert sum(len(block) for block in stream) == samples == stream.position


def test_the_seed_decides():
    def drawn():
        return Windows(*chain(32), block=BLOCK, samples=1, windows=2).seed

    first, again, other = (collect(Windows(*chain(32, LAYOUTS["books"]), block=BLOCK, seed=s,
                                           samples=20 * BLOCK,
                                           windows=4)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert drawn() != drawn()


def test_the_share_done_grows_to_one():
    shares = []
    collect(Windows(*chain(128), block=BLOCK, seed=1, samples=20 * BLOCK, windows=3,
                    report=shares.append))
    assert shares == sorted(shares)
    assert shares[0] > 0 and shares[-1] == pytest.approx(1)


def test_an_error_in_a_window_reaches_the_caller_and_ends_the_threads():
    codec, generators = chain(128)

    def fail(*_, **__):
        raise ValueError("broke")

    generators[1].sample = fail
    before = threading.active_count()
    with pytest.raises(ValueError, match="broke"):
        next(Windows(codec, generators, block=BLOCK, seed=1, samples=20 * BLOCK, windows=4))
    assert threading.active_count() == before


@pytest.mark.parametrize("arguments, message", [
    ({"samples": None}, "windows need a length"),
    ({"samples": 10, "windows": 0}, "windows is 0; it must be a whole number of at least 1"),
    ({"samples": -1}, "samples is -1"),
    ({"samples": 1, "seed": -1}, "seed is -1"),
    ({"samples": 1, "block": 8448}, "block is 8448; it must be a multiple of the top level, 512"),
    ({"samples": 1, "sampling": {8: {}}}, "sampling names level 8; the chain has levels 512, 128"),
])
def test_arguments_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        Windows(*chain(128), **{"windows": 2, "block": BLOCK} | arguments)


def test_joins_do_not_stand_out(tiny_weights, monkeypatch):
    """Neither the jump from sample to sample nor the short-time spectrum tells where a window takes
    over.

    At its hardest: each window draws its own random numbers, so that where they overlap they play
    different codes.
    """
    joins = []

    def draws(self, start, count):
        return np.stack([uniforms(first, 1, self.config.level, start, count)
                         for first in self.starts])[..., None]

    monkeypatch.setattr(windows._Rows, "draws", draws)
    patch = Windows._patch

    def noted(self, codes, position, before):
        joins.append(position * self.level)
        return patch(self, codes, position, before)

    monkeypatch.setattr(Windows, "_patch", noted)
    model = vqwave.load(tiny_weights.codecs, tiny_weights.generators)
    audio = model.generate(samples=60 * BLOCK, seed=1, level=32, windows=8)
    assert CROSS_FADE == 2048 and -(-round(windows.WARM_UP * 22050) // BLOCK) == 4
    assert len(joins) == 7 and min(joins) > 4 * BLOCK
    span = 2 * CROSS_FADE
    pieces = {start: audio[start : start + span]
              for start in range(0, len(audio) - span, CROSS_FADE)}
    pieces |= {join - CROSS_FADE - 512: audio[join - CROSS_FADE - 512 :][:span] for join in joins}
    at_joins = [any(start < join + 512 and join - CROSS_FADE < start + span for join in joins)
                for start in pieces]
    for measure in (jump, flux):
        measured = np.array([measure(piece) for piece in pieces.values()])
        elsewhere = measured[np.logical_not(at_joins)]
        assert len(elsewhere) > 100
        assert measured[at_joins].max() < elsewhere.mean() + 5 * elsewhere.std()


def jump(audio):
    """The largest step from one sample to the next."""
    return np.abs(np.diff(audio)).max()


def flux(audio):
    """The largest change of the short-time log spectrum from one frame to the next."""
    frames = np.lib.stride_tricks.sliding_window_view(audio, 512)[::256] * np.hanning(512)
    spectra = np.log(np.abs(np.fft.rfft(frames)) + 1e-6)
    return np.sqrt((np.diff(spectra, axis=0) ** 2).mean(1)).max()
