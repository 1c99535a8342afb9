import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vqwave.codecs import Labels
from vqwave.data import melody
from vqwave.data.form import TEMPI
from vqwave.data.scores import LOWEST_PITCH, Score
from vqwave.errors import UserError
from vqwave.generators import Sampling, ScoreAbove
from vqwave.generators.composer import BANDS, SOUNDING, STRUCK, VELOCITIES
from vqwave.io import weights
from vqwave.play import api, labels, midi_files
from vqwave.play.harmony import KEY_AWAITED, OUTSIDE, key_bias, read_chords, read_key
from vqwave.play.keys import Keys
from vqwave.play.prompt import Prompt
from vqwave.play.score import COLDEST, SECTION_DENSITIES, SUSTAINED, ScoreLevel
from vqwave.play.spreads import Swells
from vqwave.play.stream import Stream
from vqwave.report.copying import longest_shared

RATE = 22050
AGES = ScoreAbove.AGES


@pytest.fixture
def tune():
    """Three notes in five beats of a second."""
    return Score(np.array([0.0, 0.5, 1.0]), np.array([0.4, 0.9, 1.5]),
                 LOWEST_PITCH + np.array([2, 5, 9]), np.array([3, 0, 2]), np.zeros(0), np.zeros(0, int),
                 np.arange(-1.0, 5.0))


def steps(stream) -> np.ndarray:
    return stream._chain.score.state.codes


def test_a_piece_begins_with_a_note_and_the_performer_hears_the_score(led_music):
    with led_music.stream(seed=5) as stream:
        next(stream)
        score = stream._chain.score
        rows = score.in_frames(0, 40, 512)[0]
        assert (rows[0, : score.books] % AGES == 1).any()
        first = [start for start, *_ in stream.notes(0, 40 * 512)]
        struck = np.flatnonzero((rows[:, : score.books - BANDS] % AGES == 1).any(1))
        assert sorted({start // 512 for start in first}) == struck.tolist()


def test_a_section_is_as_loud_as_a_stretch_of_a_track():
    curves = np.arange(12.0).reshape(6, 2)
    tables = {"levels": curves, "level_counts": np.array([0, 0, 0, 4, 0, 2]), "part_strikes": np.zeros((6, 1))}
    parts = Labels(of="part", names=[f"a/{i}" for i in range(6)])
    swells, part = Swells(tables, parts), np.eye(7)[3]
    heard = [swells.loudness(part, 0.3, beat)[0] for beat in range(8)]
    assert heard == [2, 4, 6, 4, 2, 0, 2, 4]  # there and back
    assert [swells.loudness(np.eye(7)[5], 0.0, beat)[0] for beat in range(3)] == [8, 10, 8]
    # Labels that are no parts, and parts without a curve, draw any.
    assert {swells.loudness(np.eye(7)[0], chance, 0)[0] for chance in (0.0, 0.6)} == {0, 8}
    assert {Swells(tables, Labels()).loudness(part, chance, 0)[0] for chance in (0.0, 0.6)} == {0, 8}


def test_a_composed_score_has_the_loudness_of_its_sections_at_each_beat(led_music):
    with led_music.stream(seed=5) as stream:
        score = stream._chain.score
        rows = score.in_frames(0, 20 * RATE // 512, 512)[0, :, score.books + 1 :]
        loudness = score.state.loudness[0]
        assert len(loudness) == score.blocks + 1
        assert rows.min() >= loudness.min() - ScoreAbove.QUIETEST - 1 and rows.max() <= loudness.max() - ScoreAbove.QUIETEST + 1
        again = score.in_frames(5 * 512, 10, 512)[0, :, score.books + 1 :]
        np.testing.assert_array_equal(again, rows[5:15])


def test_a_long_note_keeps_its_loudness(led_music):
    with led_music.stream(seed=5) as stream:
        score = stream._chain.score
        score.compose(40 * RATE)
        begin = np.searchsorted(score.state.times, 10 * RATE)
        codes = score.state.edited
        codes[:, begin:, [1, 2]] = SOUNDING
        codes[:, begin, [1, 2]] = STRUCK, STRUCK + 3
        rows = score.in_frames(0, 38 * RATE // 512, 512)[0, 11 * RATE // 512 :]
        assert (rows[:, 1] <= AGES).all() and (rows[:, 2] // AGES >= 3).all()
        # The age stays, so the note does not fade.
        assert rows[-1, 1] == 1 + SUSTAINED and rows[-1, 2] == 1 + SUSTAINED + 3 * AGES
        assert (rows[:, score.books - BANDS : score.books] <= AGES).all()


@pytest.mark.parametrize("temperature", [0, 0.5, 1.0, 1.5])
def test_strikes_of_several_loudnesses_are_as_likely_as_one_code(led_music, temperature):
    with led_music.stream(seed=5) as stream:
        score = stream._chain.score
        score.set_sampling(Sampling(temperature=temperature))
        exponent = 1 / max(temperature, COLDEST)
        strikes = np.log(score.loudness) + score._temperature_correction()
        assert np.exp(exponent * strikes).sum() == pytest.approx(1)


def shares(stream) -> np.ndarray:
    return stream._chain.levels[1].state.labels.after[0]


def test_each_section_sounds_like_a_part_of_a_track_and_a_return_like_its_theme(led_music, monkeypatch):
    monkeypatch.setattr(labels, "SECTIONS", 2)
    with led_music.stream(seed=5) as stream, led_music.stream(seed=5, label="rain/01") as steady:
        played, sounds = {}, []
        for number in range(24):
            if number % 3 == 2:
                stream.set(section="theme" if number % 6 == 2 else "new")
            sounds.append(next(stream))
            section = stream._chain.score.state.section
            played.setdefault(section, []).append(shares(stream).argmax())
        assert len(played) > 3 and all(len(set(x[1:])) <= 1 for x in played.values())
        assert len({x[-1] for x in played.values()}) > 1 and shares(stream).max() == 1
        assert stream.labels == ("rain", "wind") and stream.label == ""
        assert any((next(steady) != sound).any() for sound in sounds)
        stream.set(label="rain")
        heard = set()
        for _ in range(24):
            stream.set(section="new")
            next(stream)
            heard.add(tuple(shares(stream)))
        assert stream.label == "rain" and heard == {(1, 0, 0, 0), (0, 1, 0, 0)}
        stream.set(label="")
        assert stream.label == ""


def test_notes_have_the_times_and_pitches_of_the_sound(led_music):
    """In and after a hold, after a jump and a transposition."""
    with led_music.stream(seed=5, past=2) as stream, led_music.stream(seed=5) as plain, led_music.stream(seed=9) as fresh:
        def check_delay():
            delay, expected = stream.position - plain.position, plain.notes(plain.position)
            assert expected and stream.notes(0)[: len(expected)] == [
                (first + delay, last + delay, *note) for first, last, *note in expected]

        for one in (stream, plain, fresh):
            next(one)
        next(stream), next(plain)
        stream.set(hold=2 * stream.block / RATE)
        for _ in range(3):
            next(stream)
            check_delay()
        stream.set(hold=0)
        next(stream), next(plain)
        next(stream), next(plain)
        begin, delay = plain.position - plain.block, stream.position - plain.position
        assert plain.notes(begin, plain.position) == [
            (first - delay, last - delay, *note) for first, last, *note in stream.notes(begin + delay, stream.position)]
        jumped = stream.position
        stream.set(jump=9, transpose=2)
        next(stream)
        heard = stream.notes(0, jumped + stream.block)
        assert heard == [(first + jumped, last + jumped, note + 2, velocity)
                         for first, last, note, velocity in fresh.notes(0, stream.block)]


def test_an_attack_does_not_sound_before_its_strike(led_music):
    with led_music.stream(seed=5) as stream:
        next(stream)
        score = stream._chain.score
        score.state.edited = np.zeros((1, 8, score.books), np.int32)
        score.state.edited[0, 5, -1] = STRUCK
        score.state.times = 512 * np.arange(9)
        ages = score._ages(np.arange(8), np.arange(8), 512)
    assert ages[0, :, -1].tolist() == [0, 0, 0, 0, 0, 1, 2, 3] and not ages[..., :-1].any()


def test_a_clock_sets_the_tempo_and_the_change_is_kept(led_music):
    with led_music.stream(seed=5) as stream:
        next(stream)
        keys = Keys(stream)
        keys.follow(132.5)
        keys.follow(1000.0)
        assert keys.changes == [(stream.position, {"tempo": 132.5}), (stream.position, {"tempo": 200.0})]
        keys.follow(10.0)
        assert keys.changes[2:] == [(stream.position, {"tempo": 30.0})]


def test_a_key_keeps_notes_to_its_scale(led_music):
    assert read_key("Dm") == read_key("d minor") == read_key("D-minor") != read_key("D") == read_key("d-Major")
    assert read_key("bb") == read_key("Bb-major") == read_key("A#") != read_key("bm")
    assert read_key("Cb") == read_key("B") and read_key("Ebm") == read_key("D#m") != read_key("Em")
    minor, major = np.array(read_key("D-minor")), np.array(read_key("F-major"))
    assert ((minor > 0) == (major > 0)).all() and (minor.argmax(), major.argmax()) == (2, 5)
    key = read_key("minor", 5)
    assert key in {read_key(f"{tonic}{sharp}-minor") for tonic in "CDEFGAB" for sharp in ("", "#")}
    with led_music.stream(seed=5) as free, led_music.stream(seed=5) as keyed:
        keyed.set(key="minor")
        for _ in range(30):
            next(free), next(keyed)
        outside = [np.mean([not key[pitch % 12] for _, _, pitch, _ in stream.notes()])
                   for stream in (free, keyed)]
    assert outside[1] < 0.3 * outside[0]


def test_chords_sound_a_bar_each_from_the_beginning_of_a_section(led_music):
    assert read_chords("A") == read_chords("a,") != read_chords("Am") and len(read_chords("Dm7 | G7 | Cmaj7")) == 36
    assert read_chords("Bb") == read_chords("A#") and read_chords("") == ()
    for text in ("H", "Amin", "A/C", "C " * 65):
        with pytest.raises(UserError, match="chord"):
            read_chords(text)
    inside = {}
    for chords in ("", "Am F C G"):
        with led_music.stream(seed=5) as stream:
            stream.set(chords=chords)
            for _ in range(30):
                next(stream)
            begin, _, _ = stream.section
            bars = stream.beats[(stream.places == 0) & (stream.beats >= begin)]
            tones = np.array(read_chords("Am F C G")).reshape(4, 12) > 0
            inside[chords] = np.mean([tones[(np.searchsorted(bars, start, "right") - 1) % 4, pitch % 12]
                                      for start, _, pitch, _ in stream.notes(begin)])
    assert inside["Am F C G"] > 0.8 > 0.6 > inside[""]


def test_the_bias_of_a_key_makes_up_for_missing_strikes_and_keeps_their_number():
    key = read_key("D-minor")
    shares, strikes = np.array(key), 30 * np.eye(12, dtype=int)[9]
    np.testing.assert_allclose(key_bias(key, 0 * strikes)[shares > 0], 0, atol=1e-12)
    bias = key_bias(key, strikes)
    assert bias[9] < 0 < bias[2] and (bias[shares == 0] == -OUTSIDE).all()
    heard = strikes + KEY_AWAITED * shares
    assert heard @ np.exp(bias) == pytest.approx(heard.sum())


@pytest.fixture
def led_copy(led_weights, tmp_path):
    """A copy of the weights, to change them."""
    shutil.copytree(led_weights.codecs.parent, tmp_path, dirs_exist_ok=True)
    return SimpleNamespace(codecs=tmp_path / "codecs", generators=tmp_path / "generators")


def save_tables(folder, **changed):
    """Save the score of a folder with some tables of its corpus changed."""
    score = weights.find(folder, "score")
    parts = {"generator": score.load("generator"), "corpus": score.load("corpus") | changed}
    weights.save(folder, "score", "", parts, score.config)


def test_a_piece_shares_no_more_than_eight_notes_with_a_training_track(led_copy):
    folder, lines = led_copy.generators, []

    def load():
        return api.load(led_copy.codecs, folder, engine="onnx-float32").stream(seed=5)

    def compose(stream):
        stream._chain.score.compose(20 * RATE)
        lines.append(melody.moves(*melody.top_line(steps(stream)[0])))
        return steps(stream)

    with load() as stream:
        track = compose(stream)
    save_tables(folder, ngrams=melody.to_digits(melody.ngrams(track)))
    with load() as stream:
        next(stream)
        saved = stream.state()
        piece = compose(stream)
    with Stream.resume(saved) as stream:
        np.testing.assert_array_equal(compose(stream), piece)
    assert longest_shared(lines[1], lines[:1]) == melody.ORDER - 1


def test_a_piece_has_the_notes_and_the_returns_of_its_training_scores(led_copy):
    notes, new = [], []
    for strikes, returns in ((0.3, 0.0), (3.0, 0.75)):
        save_tables(led_copy.generators, strikes=np.array([strikes]), returns=np.array([returns]))
        with api.load(led_copy.codecs, led_copy.generators).stream(seed=5) as stream:
            stream._chain.score.compose(100 * RATE)
            notes.append((steps(stream)[..., :-BANDS] >= STRUCK).sum())
            new.append(len(stream._chain.score.state.sections))
    assert notes[1] > 2 * notes[0] and new[0] > 2 * new[1]


def test_a_piece_draws_its_tempo_from_those_of_the_training_tracks(led_copy):
    save_tables(led_copy.generators, tempi=np.array([130.0, 140.0, 180.0]))
    led = api.load(led_copy.codecs, led_copy.generators)
    tempi = []
    for seed in range(20):
        with led.stream(seed=seed) as stream:
            next(stream)
            tempi.append(stream.tempo)
    assert min(tempi) >= 130 and max(tempi) <= 180 and len(set(tempi)) == 20
    # Half of the pieces are slower than the median track.
    assert 4 <= sum(tempo < 140 for tempo in tempi) <= 16


def test_a_requested_theme_returns(led_music):
    with led_music.stream(seed=5) as stream:
        stream.set(section="new")
        for _ in range(80):
            next(stream)
        before = steps(stream).shape[1]
        stream.set(section="theme")
        for _ in range(20):
            next(stream)
        state = stream._chain.score.state
        assert state.theme >= 0 and state.began >= before
        count = min(steps(stream).shape[1] - state.began, state.until - state.began)
        theme = steps(stream)[0, state.theme - state.first :][:count]
        again = steps(stream)[0, state.began - state.first :][:count]
        other = steps(stream)[0, state.theme - state.first + 3 :][:count]
        assert (theme == again).mean() > (other == again).mean()


def test_a_score_is_performed_at_its_times_and_then_goes_on(led_music, tune):
    with led_music.stream(seed=5, score=tune) as stream:
        for _ in range(16):
            next(stream)
        notes = stream.notes(0, RATE)
        assert [(round(start / RATE, 1), pitch - LOWEST_PITCH, velocity) for start, _, pitch, velocity in notes] == [
            (0.0, 2, VELOCITIES[3]), (0.5, 5, VELOCITIES[0])]
        assert stream.notes(3 * RATE)


def test_a_score_follows_a_tempo_and_its_notes_are_in_the_range_of_the_composer(led_music, tmp_path):
    pitches = LOWEST_PITCH + np.array([-22, 65, 9])
    midi_files.write(tmp_path / "far.mid", [(i * RATE // 2, (i + 1) * RATE // 2, pitch, VELOCITIES[3 - i]) for i, pitch in enumerate(pitches)],
               RATE, RATE * np.arange(3))
    with led_music.stream(seed=5, score=led_music.score(tmp_path / "far.mid")) as stream:
        stream.set(tempo=120)
        for _ in range(8):
            next(stream)
        notes = stream.notes(0, RATE)
        highest = LOWEST_PITCH + steps(stream).shape[2] - BANDS - 1
    assert [round(start / RATE, 2) for start, *_ in notes[:3]] == [0.0, 0.25, 0.5]
    assert [((pitch - LOWEST_PITCH) % 12, velocity) for _, _, pitch, velocity in notes[:3]] == [
        (2, VELOCITIES[3]), (5, VELOCITIES[2]), (9, VELOCITIES[1])]
    assert all(LOWEST_PITCH <= pitch <= highest for _, _, pitch, _ in notes) and notes[0][2] == LOWEST_PITCH + 2


def test_rests_before_a_given_score_are_left_out_but_with_an_intro(led_music, tune):
    late = tune.earlier(-3.25)
    for intro, begins in ((False, 0.25), (True, 3.25)):
        with led_music.stream(seed=5, score=replace(late, beats=np.arange(-1.0, 9.0)), intro=intro) as stream:
            for _ in range(10):
                next(stream)
            assert stream.notes(0, 4 * RATE)[0][0] == round(begins * RATE)


def test_sections_have_random_densities_and_a_return_that_of_its_theme(led_music):
    densities: dict[int, set[float]] = {}
    returns = 0
    with led_music.stream(seed=5) as stream:
        score = stream._chain.score
        for number in range(60):
            stream.set(section="theme" if number % 3 == 2 else "new")
            next(stream)
            state = score.state
            returns += state.theme >= 0
            first = state.theme if state.theme >= 0 else state.sections[-1]
            densities.setdefault(first, set()).add(score._section_density())
    assert returns and all(len(values) == 1 for values in densities.values())
    drawn = sorted(density for values in densities.values() for density in values)
    assert len(set(drawn)) == len(densities) > 5
    assert SECTION_DENSITIES[0] <= drawn[0] and drawn[-1] < SECTION_DENSITIES[1]


def test_a_jump_to_a_recording_continues_its_score(led_music, tune):
    """The part of a prompt that is no whole block is not continued."""
    with led_music.stream(seed=5) as stream:
        codes = {level: np.zeros(100 * 512 // level, np.int32) for level in (512, 128)}
        prompt = Prompt(codes, np.zeros(100 * 512, np.float32), score=tune)
        next(stream)
        stream.set(jump=9, begin=prompt)
        next(stream)
        score = stream._chain.score.state
        cut = 100 * 512 % stream.block
        expected = tune.in_steps(score.codes.shape[2])[:10]
        np.testing.assert_array_equal(score.codes[0, :10], expected)
        assert cut and score.times[4] == pytest.approx(-cut, abs=1)


@pytest.fixture
def steady(monkeypatch):
    """All sections have the expected number of notes."""
    monkeypatch.setattr(ScoreLevel, "_section_density", lambda level: 1.0)


def test_a_cold_piece_still_has_notes(led_music, steady):
    """The governor pushes harder where a low temperature makes notes rare."""
    struck = []
    for temperature in (1.0, 0.7):
        with led_music.stream(seed=5) as stream:
            score = stream._chain.score
            score.set_sampling(Sampling(temperature=temperature))
            score.compose(20 * RATE)
            score.state.codes[:] = 0  # nothing has sounded for a long time
            score.section_labels = None  # without spreads
            struck.append(score._bias(0, score.stop, np.ones(score.books, bool))[0, STRUCK] - score._temperature_correction())
    assert struck[1] == pytest.approx(struck[0] / 0.7)


def test_a_score_goes_on_in_its_pitches(led_music):
    starts = 0.5 * np.arange(8)
    tune = Score(starts, starts + 0.4, LOWEST_PITCH + 12 + 5 * (np.arange(8) % 2), np.zeros(8, int),
                 np.zeros(0), np.zeros(0, int), np.arange(-1.0, 5.0))
    shares = []
    for stay in (0, 1):
        with led_music.stream(seed=5, score=tune) as stream:
            stream.set(stay=stay)
            for _ in range(23):
                next(stream)
            notes = stream.notes(5 * RATE)
        shares.append(np.mean([(pitch - LOWEST_PITCH) % 12 in (0, 5) for _, _, pitch, _ in notes]))
    assert shares[1] > 1.5 * shares[0]


def test_a_mood_sets_the_controls_that_its_words_stand_for(led_music):
    with led_music.stream(seed=3) as stream, led_music.stream(seed=3) as other:
        stream.set(mood="Slow, minor,dense", density=0.5)
        other.set(tempo=TEMPI[0], key="minor", density=0.5)
        for _ in range(6):
            np.testing.assert_array_equal(next(stream), next(other))
        for mood in ("", "slow,", "glad", "slow,fast", 3):
            with pytest.raises(UserError, match="mood"):
                stream.set(mood=mood)
