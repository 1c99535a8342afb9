import numpy as np
import pytest

from vqwave.data.scores import LOWEST_PITCH
from vqwave.errors import UserError
from vqwave.generators.composer import BANDS, SOUNDING, STRUCK
from vqwave.levels import validate
from vqwave.play.edits import ADDED, Edits

BLOCKS = 12


def played(led_music, edits=None):
    """The sound of a piece, its composed and its edited codes, and its notes."""
    with led_music.stream(seed=3) as stream:
        if edits:
            stream.set(edits=edits)
        sound = np.concatenate([next(stream) for _ in range(BLOCKS)])
        state = stream._chain.score.state
        return sound, state.codes[0], state.edited[0], stream.notes(0), state.times


def test_edited_notes_and_bars_are_performed_and_the_rest_is_kept(led_music):
    sound, codes, edited, notes, times = played(led_music)
    np.testing.assert_array_equal(codes, edited)
    first, _, note, _ = notes[2]
    step = int(np.searchsorted(times, first))
    bar = (step // 4 + 3) * 4
    edits = {"removed": [[step, note]], "added": [[step, LOWEST_PITCH + 5, 3]], "redrawn": [[bar, 8, 1]]}
    other, composed, played_codes, heard, _ = played(led_music, edits)
    np.testing.assert_array_equal(composed, codes)
    assert played_codes[step, note - LOWEST_PITCH] < STRUCK
    assert played_codes[step : step + 3, 5].tolist() == [ADDED, SOUNDING, SOUNDING]
    assert (played_codes[step, -BANDS:] >= STRUCK).any(), "an added note has an attack"
    assert (played_codes[bar : bar + 8] != codes[bar : bar + 8]).any()
    changed = np.flatnonzero((played_codes != codes).any(1))
    assert changed.min() == step
    struck = played_codes[bar + 8 :] >= STRUCK
    np.testing.assert_array_equal(struck, codes[bar + 8 :] >= STRUCK)
    assert (first, note) not in [(start, pitch) for start, _, pitch, _ in heard]
    assert (sound != other).any()
    np.testing.assert_array_equal(played(led_music, edits)[0], other)
    again = played(led_music, edits | {"redrawn": [[bar, 8, 2]]})[2]
    assert (again[bar : bar + 8] != played_codes[bar : bar + 8]).any(), "another number draws other notes"


def test_a_jump_ends_edits(led_music):
    with led_music.stream(seed=3) as stream:
        stream.set(edits={"redrawn": [[16, 16, 3]]})
        next(stream)
        stream.set(jump=4)
        next(stream)
        assert stream.steering.edits == Edits()


@pytest.mark.parametrize("edits", [[], {"moved": []}, {"added": [[1, 2]]}, {"removed": [[-1, 60]]},
                                   {"redrawn": [[2, 8, 0]]}, {"redrawn": [[0, 400, 0]]},
                                   {"removed": [[1.0, 60]]}])
def test_edits_that_cannot_be_made_are_refused_in_one_line(edits):
    with pytest.raises(UserError, match="edits"):
        validate(Edits, edits, "edits")
