"""The keys of a terminal change a stream, and the line shows how."""

import string
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from test_controls import OTHER, PAST, Music
from test_stream import BLOCK, chain, start

from vqwave.generators import Sampling
from vqwave.play import controls, session
from vqwave.play.keys import TAKEN, Keys


@pytest.fixture
def stream():
    stream = start(chain(128), seed=3, past=16 * BLOCK / 22050)
    for _ in range(8):
        next(stream)
    return stream


PLAIN = {name: one for name, one in controls.CONTROLS.items() if name != "guidance" and not one.score}
"""Those of weights without labels and without a score."""


def test_each_key_has_one_meaning():
    used = [*TAKEN, *"".join(one.keys for one in controls.CONTROLS.values())]
    free = sorted({*string.ascii_letters} - {*used})
    assert len(used) == len({*used}), f"two controls have the same key; free are {''.join(free)}"


@pytest.mark.parametrize("name", PLAIN)
def test_each_control_has_keys(stream, name):
    keys, one = Keys(stream), controls.CONTROLS[name]
    keys.press(one.keys[-1])
    (sample, change), = keys.changes
    assert sample == 8 * BLOCK
    if one.sampled:
        assert list(change["sampling"]) == ["512x", "128x"]
    elif len(one.keys) == 1:
        assert change == {name: {"512x": keys.bar} if name == "freeze" else keys.bar}
    else:
        assert change == {name: one.clip(one.default + one.step)}
    if name != "top_p":  # which is at its most
        assert name in keys.line
    for _ in range(100):  # to its end, and no further
        keys.press(one.keys[0])
    assert len(keys.changes) == 101 and not keys.notice


@pytest.mark.parametrize("name, values", [
    ("temperature", [1.0, 1.25, 1.5]), ("loudness", [-80.0, -12.04, 0.0]),
    ("mutate", [0.0, 0.5, 1.0]), ("pull", [0.0, 3.0, 6.0])])
def test_a_knob_covers_the_range_of_its_control_and_rises(name, values):
    one = controls.CONTROLS[name]
    assert [one.turned(x) for x in (0, 0.5, 1)] == pytest.approx(values, abs=0.01)
    turned = [one.turned(x) for x in np.arange(128) / 127]
    assert turned == sorted(turned)


def test_r_and_w_load_recordings_and_weights_while_other_keys_work():
    loaded = threading.Event()

    class Slow(Music):
        def prompt(self, *given, **more):
            loaded.wait(60)
            return super().prompt(*given, **more)

    options = {"seed": 3, "past": PAST}
    music = Slow(chain(128), other=Music(OTHER))
    stream = start(chain(128), music=music, **options)
    keys = Keys(stream, ["song.mp3"], ["other", "nowhere"])
    heard = [next(stream)]
    assert {"r next recording", "w next weights"} <= {pair for line in keys.help(200) for pair in line.split("  ")}
    keys.press("r")
    assert keys.line.startswith("loading song.mp3")
    keys.press("w")
    assert keys.notice == "please wait: a recording or weights are being loaded"
    keys.press("-")
    assert keys.changes[-1][1] == {"loudness": -2.0}
    loaded.set()
    keys._loading.join()
    assert keys.changes[-1][1]["begin"] == {"file": "song.mp3", "seconds": 5.0} and "seed" in keys.notice
    heard.append(next(stream))
    keys.press("w")
    keys._loading.join()
    # The levels are now those of the new weights.
    keys.press("t")
    assert list(keys.changes[-1][1]["sampling"]) == ["2048x", "512x", "128x"]
    keys.press("-")
    assert keys.changes[-1][1] == {"loudness": -4.0}, "the stream kept its loudness"
    heard += [next(stream) for _ in range(4)]
    keys.press("w")
    keys._loading.join()
    assert "no weights here" in keys.notice
    fresh = start(chain(128), music=Music(chain(128), other=Music(OTHER)), **options)
    again = session.replay(fresh, keys.changes)
    np.testing.assert_array_equal(np.concatenate([next(again) for _ in range(6)]), np.concatenate(heard))


def test_the_first_change_of_the_tempo_starts_from_the_tempo_that_the_model_chose():
    stream = SimpleNamespace(labels=(), has_score=True, steering=controls.Steering(), tempo=90.0, sampling={}, sampled=dict.fromkeys(Sampling.model_fields, []), set=lambda **change: 0)
    keys = Keys(stream)
    for key in "cCC":
        keys.press(key)
    assert [change for _, change in keys.changes] == [{"tempo": 86.0}, {"tempo": 90.0}, {"tempo": 94.0}]
