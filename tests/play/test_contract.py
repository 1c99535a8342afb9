"""What every stream keeps, whatever is done to it: a session is replayed and resumed bit for bit, and a
piece of a batch is the piece alone.
"""

import io

import numpy as np
import pytest
from test_controls import MUSIC, PAST, WILD, Sounding, leaning
from test_label_mixing import PERFORMANCE
from test_label_mixing import chain as labelled
from test_stream import BLOCK, LAYOUTS, chain, given, prompted, start, varied

from vqwave.data.scores import LOWEST_PITCH, Score
from vqwave.generators import Sampling
from vqwave.play import session
from vqwave.play.session import Session
from vqwave.play.stream import Stream

CHANGES = [(2, {"loudness": -6.0}), (3, {"sampling": WILD}), (4, {"hold": 2 * BLOCK / 22050}),
           (7, {"hold": 0}), (8, {"jump": 77}), (10, {"hold": 3 * BLOCK / 22050, "loudness": 3}),
           (12, {"jump": 5}), (13, {"hold": 2 * BLOCK / 22050}), (14, {"hold": BLOCK / 22050}),
           (15, {"hold": 0}), (16, {"sampling": Sampling(temperature=0.75)}),
           (17, {"freeze": BLOCK / 22050, "transpose": 3}), (18, {"mutate": 0.25}),
           (20, {"freeze": {128: 2 * BLOCK / 22050}, "transpose": -5.5}),
           (22, {"freeze": 0, "transpose": 0})]
LENGTH = 26
LEANING = leaning()
GIVEN = given(2 * BLOCK + 512, 32, layout=LAYOUTS["books"])
KEPT = given(30 * BLOCK, layout=LAYOUTS["books"])[512]
CODEC, GENERATORS = OF_BOOKS = chain(32, LAYOUTS["books"])
FEATURES = {
    "controls": (chain(128), {"past": PAST, "log_probs": True}, CHANGES),
    "books at both ends": (chain(32, LAYOUTS["books at both ends"]), {"log_probs": True}, []),
    "several books": (OF_BOOKS, {"past": PAST, "log_probs": True}, CHANGES),
    "prompt": (OF_BOOKS, {"begin": prompted(GIVEN)}, []),
    "original": (OF_BOOKS, {"begin": prompted(GIVEN, np.full(2 * BLOCK + 512, 0.1), keep_original=True)}, []),
    "variation": ((CODEC, GENERATORS[1:]), {"begin": varied(512, KEPT)}, [(3, {"loudness": -3.0})]),
    "look-ahead": (chain(128), {"ahead": 0.02}, [(2, {"transpose": 3})]),
    "labels": (labelled(), {"label": "calm"}, [*PERFORMANCE.items()]),
    "other weights": (chain(128), {"past": PAST, "music": MUSIC}, [
        (2, {"jump": 77, "weights": "other", "sampling": {2048: {"temperature": 0.5}}}),
        (3, {"freeze": BLOCK / 22050}), (6, {"hold": BLOCK / 22050}),
        (8, {"jump": 4, "begin": {"file": "song.mp3", "start": 3, "seconds": 2}}),
        (10, {"loudness": -3})]),
    "notes": (LEANING, {"music": Sounding(LEANING)}, [
        (1, {"notes": [60, 64]}), (3, {"pull": 9.0}), (5, {"jump": 7}), (8, {"notes": []}),
        (9, {"notes": [62]}), (11, {"notes": [], "stay": 2}),
        (12, {"jump": 4, "begin": {"file": "song.mp3", "seconds": 2}}), (16, {"stay": 0.25})]),
    "a composed score": (None, {"past": PAST}, [
        (0, {"tempo": 150, "density": 1.5, "key": "D-minor"}), (1, {"section": "new"}), (3, {"chords": "Am F"}),
        (4, {"edits": {"redrawn": [[16, 16, 3], [64, 16, 1]], "added": [[40, 60, 4]], "removed": [[41, 60]]}}),
        (5, {"section": "theme"}), (6, {"density": 0.5, "bar": True}), (7, {"label": "rain"}), (8, {"section": "new"}),
        (8, {"density": 2.5}), (9, {"hold": BLOCK / 22050}), (10, {"hold": 0}),
        (12, {"jump": 4, "key": ""}), (15, {"mood": "slow,minor"})]),
    # Its beats begin before its sound.
    "a given score": (None, {"intro": True, "leveling": True, "score": Score(
        np.arange(1.0, 5.0), np.arange(1.5, 5.5), LOWEST_PITCH + np.arange(4), np.zeros(4, int), np.zeros(0),
        np.zeros(0, int), np.arange(-1.0, 6.0))}, [(4, {"stay": 2}), (8, {"tempo": 90})]),
}


def perform(stream, changes, resume=False):
    """The sound of a stream, whose changes are made before the block they name. resume: before each block."""
    parts = []
    for i in range(LENGTH):
        for at, change in changes:
            if at == i:
                assert stream.set(**change) == i * stream.block
        if resume:  # queued changes are part of the state too
            stream = resumed(stream)
            assert stream.position == i * stream.block
        parts.append(next(stream))
    stream.close()
    return np.concatenate(parts, axis=-1)


def resumed(stream):
    file = io.BytesIO()
    np.savez(file, **stream.state())
    stream.close()
    file.seek(0)
    with np.load(file, allow_pickle=False) as state:
        return Stream.resume(state, stream.queued)


@pytest.fixture(scope="module", params=FEATURES)
def feature(request):
    """A function that opens a stream, the changes by block, and what is heard."""
    parts, options, changes = FEATURES[request.param]
    if parts is None:
        music = request.getfixturevalue("led_music")

    def opened(batch=None):
        return (music.stream(seed=3, batch=batch, **options) if parts is None
                else start(parts, seed=3, batch=batch, **options))

    return opened, changes, perform(opened(), changes)


def test_a_session_is_replayed(feature):
    opened, changes, heard = feature
    stream = opened()
    score = Session(seed=3, changes=tuple((i * stream.block, change) for i, change in changes))
    score.check(stream)
    replayed = session.replay(stream, score.changes)
    np.testing.assert_array_equal(np.concatenate([next(replayed) for _ in range(LENGTH)]), heard)


@pytest.mark.parametrize("batch", [None, 2])
def test_a_stream_resumes_at_every_block_and_a_piece_of_a_batch_is_the_piece_alone(feature, batch):
    opened, changes, heard = feature
    sound = perform(opened(batch), changes, resume=True)
    np.testing.assert_array_equal(sound[0] if batch else sound, heard)
