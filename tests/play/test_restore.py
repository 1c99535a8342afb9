"""A stream continues from its saved state, and refuses a state that was changed."""

import numpy as np
import pytest
from test_controls import steered
from test_label_mixing import chain as labelled
from test_stream import start

from vqwave.errors import UserError
from vqwave.play.chain import Engines
from vqwave.play.stream import Stream


def with_labels():
    parts = labelled()
    stream = start(parts, seed=3, label="calm")
    next(stream)
    stream.set(label="dance")
    next(stream)
    return stream.state(), lambda state: Stream.resume(state, Engines(*parts))


def with_a_score(music):
    with music.stream(seed=3) as stream:
        stream.set(tempo=150, density=1.5, key="D-minor")
        next(stream)
        return stream.state(), lambda state: Stream.resume(state, stream.queued)


@pytest.fixture(scope="module", params=["steered", "labels", "score"])
def saved(request):
    """A genuine state, and a function that continues from a state."""
    if request.param == "score":
        return with_a_score(request.getfixturevalue("led_music"))
    if request.param == "labels":
        return with_labels()
    stream, parts = steered()
    return stream.state(), lambda state: Stream.resume(state, Engines(*parts))


def changed(value):
    """Other values in place of a genuine one; None removes the field."""
    yield from (None, "x", 10**9, np.zeros(3))
    if isinstance(value, np.ndarray) and value.size:
        yield from (value[..., None], value.astype(complex), ~value if value.dtype == bool else value + 1)


def test_a_changed_state_is_refused_in_one_line(saved):
    state, resume = saved
    with resume(state) as stream:
        assert next(stream).size
    for name, value in state.items():
        for other in changed(value):
            harmed = {key: x for key, x in state.items() if key != name}
            if other is not None:
                harmed[name] = other
            with pytest.raises(UserError, match="the saved state (is damaged|has version)") as caught:
                resume(harmed)
            assert "\n" not in str(caught.value)


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
