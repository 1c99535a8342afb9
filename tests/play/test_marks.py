import numpy as np
import pytest

from vqwave.data.scores import LOWEST_PITCH, Score
from vqwave.errors import UserError

SET = {"density": {"density": 0.25}, "key": {"key": "F#-minor"}, "chords": {"chords": "F#"}, "tempo": {"tempo": 170},
       "section": {"section": "new"}, "temperature": {"sampling": {"score": {"temperature": 2.0}}}}
TUNE = Score(np.arange(0, 4, 0.5), np.arange(0.4, 4, 0.5), LOWEST_PITCH + np.arange(8), np.zeros(8, int),
             np.zeros(0), np.zeros(0, int), np.arange(-1.0, 6.0))


def ready(stream):
    """Play until the next step that is not performed lies within a beat, with much composed ahead. Returns
    this step.
    """
    stream.set(density=2.5)
    while not stream.position or not stream.steps[1] % 4:
        next(stream)
        stream._chain.score.compose(8 * 22050)
    return stream.steps[1]


@pytest.mark.parametrize("name", SET)
def test_a_change_acts_from_the_first_step_that_is_not_performed(led_music, name):
    with led_music.stream(seed=3) as plain, led_music.stream(seed=3) as changed:
        first, _ = ready(changed), ready(plain)
        before = changed._chain.score.state
        codes, times, stop = before.codes[0], before.times, changed._chain.score.stop
        changed.set(**SET[name])
        sounds = [np.concatenate([next(stream) for _ in range(8)]) for stream in (plain, changed)]
        after = changed._chain.score.state
        np.testing.assert_array_equal(after.codes[0, :first], codes[:first])
        np.testing.assert_array_equal(after.times[: first + 1], times[: first + 1])
        if name == "section":
            assert first < after.began < first + 4
            return
        assert stop == changed._chain.score.stop, "no more than before is composed again"
        assert (after.codes[0, first:] != codes[first:]).any() or (after.times[first:] != times[first:]).any()
        assert (sounds[0] != sounds[1]).any()


@pytest.mark.parametrize("options", [{}, {"score": TUNE, "batch": 2}])
def test_composing_again_without_a_change_composes_the_same(led_music, options):
    def played(again):
        sounds = []
        with led_music.stream(seed=3, **options) as stream:
            stream.set(edits={"redrawn": [[20, 16, 3]], "added": [[41, 60, 4]], "removed": [[42, 60]]}, tempo=150)
            for number in range(24):
                if number in (4, 9):
                    stream.set(section="new")
                if again:
                    stream.set(density=1.0)
                sounds.append(next(stream))
                assert len(stream._chain.score.state.marks) < 8
            return np.concatenate(sounds, axis=-1), stream.notes(), stream.section

    sound, notes, section = played(False)
    other, *rest = played(True)
    np.testing.assert_array_equal(other, sound)
    assert rest == [notes, section]


def test_a_change_can_wait_for_the_next_bar(led_music):
    with led_music.stream(seed=3) as stream:
        while not stream.position or stream._chain.next_bar == stream.steps[1]:
            next(stream)
            stream._chain.score.compose(8 * 22050)
        assert stream.on_bar(True)
        codes, bar, stop = stream._chain.score.state.codes, stream._chain.next_bar, stream._chain.score.stop
        stream.set(density=3.0, bar=True)
        stream.set(key="F#")  # no change goes back behind this bar
        stream.state()
        assert stream.steps[1] == bar
        again = stream._chain.score.state.codes
        np.testing.assert_array_equal(again[:, :bar], codes[:, :bar])
        assert (again[:, bar:stop] != codes[:, bar:]).any()
        with pytest.raises(UserError, match="bar is 1"):
            stream.set(density=1.0, bar=1)
