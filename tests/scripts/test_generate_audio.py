import json
import sys
from functools import partial
from pathlib import Path

import imported
import numpy as np
import prepared
import pytest
import soundfile
from encoded import encode

import vqwave
from vqwave.io import audio
from vqwave.play import session
from vqwave.play.session import Session
from vqwave.presets import load_preset


@pytest.fixture
def run(capsys, tiny_weights):
    return partial(imported.run, capsys, "generate_audio", "--vqvae-weights-dir",
                   tiny_weights.codecs, "--generator-weights-dir", tiny_weights.generators)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A folder with song.mp3 (2 s, stereo, 44.1 kHz)."""
    folder = tmp_path_factory.mktemp("recordings")
    sound = prepared.music(2.0, 3, 44100)
    encode(folder / "song.mp3", np.stack([sound, sound], axis=1))
    return folder


@pytest.fixture(scope="module")
def music(tiny_weights):
    return vqwave.load(tiny_weights.codecs, tiny_weights.generators)


@pytest.mark.parametrize("name, level", [("all", 8), ("generator_512,generator_128", 128)])
def test_length_counts_top_codes_and_the_same_seed_is_the_same_file(run, tmp_path, name, level,
                                                                    tiny_weights):
    files = []
    for i, seed in enumerate((1, 1, 2)):
        path = tmp_path / f"{i}.wav"
        code, said, notes = run("--length", 33, "--generators", name, "--seed", seed, "--output",
                                path)
        assert code == 0, notes
        assert said.splitlines() == [f"seed {seed}", f"wrote {path}: 0.77 s, 16896 samples"]
        files.append(path.read_bytes())
    assert files[0] == files[1] != files[2]
    decoded = audio.decode(tmp_path / "0.wav", 22050)
    assert len(decoded) == 33 * 512
    piece = vqwave.load(tiny_weights.codecs, tiny_weights.generators).generate(samples=33 * 512,
                                                                               seed=1, level=level)
    np.testing.assert_array_equal(audio.to_u16(decoded), audio.to_u16(piece))


FILE = ["--length", "99", "--output", "TMP/a.wav"]


@pytest.mark.parametrize("arguments, message", [
    (["--generators", "generator_9", *FILE], "no generator is called 'generator_9'"),
    (["--length", "1000000000", "--output", "TMP/a.wav"], "a piece lasts at most 24"),
    (["--batch", "2"], "--output FILE` has the options for files"),
    ([*FILE, "--device", "1"], "play` has the options for playing"),
    (["--generator-weights-dir", "TMP", *FILE], "no weights of generator_512"),
    (["--prompt", "SONG", "--seconds", "1", "--output", "TMP/a.wav"],
     "the piece lasts 1.00 s, but the prompt alone lasts 2.00 s"),
    (["--prompt", "", *FILE], ".: is a directory"),
    (["--keep", "512", *FILE], "--keep needs --variation-of"),
    *[(["--variation-of", "SONG", "--keep", level, *FILE], f"no level is called '{level}'; there are 512x, 128x, 32x, 8x")
      for level in ("7", "9")],
    (["--record", "TMP/no/score.json"], "score.json: there is no folder"),
    (["--midi", "TMP/no/a.mid", *FILE], "a.mid: there is no folder"),
    (["--midi", "TMP/b.wav", *FILE], "b.wav: the name of a MIDI file ends in .mid or .midi"),
    (["--score-from", "TMP/no.mid", "--prompt", "TMP/no.wav", *FILE],
     "--score-from and --prompt exclude each other"),
    *[([flag, "TMP/no.mid", *FILE], "TMP/no.mid: no such file")
      for flag in ("--score-from", "--prompt", "--variation-of")],
    (["--key", "H-minor", *FILE], "key is 'H-minor'; it must be like D-minor"),
    (["--key", "D-minor", *FILE], "key needs weights with a score (preset vqwave); these have none"),
    (["--chords", "Am H", *FILE], "chords has 'H'; a chord is a note"),
    (["--mood", "fast, slow", *FILE], "mood fast, slow: two of these words set the same control"),
    (["--mood", "minor", *FILE], "key needs weights with a score (preset vqwave); these have none"),
    (["--fade", "1", "--seconds", "1.5", "--output", "TMP/a.wav"], "1 s of fade at both ends"),
])
def test_errors_are_one_line_and_code_2_and_leave_nothing(run, recordings, tmp_path, arguments,
                                                          message):
    for name, path in {"TMP": tmp_path, "SONG": recordings / "song.mp3"}.items():
        arguments = [a.replace(name, str(path)) for a in arguments]
    code, said, notes = run(*arguments)
    assert code == 2
    assert message.replace("TMP", str(tmp_path)) in notes.splitlines()[-1]
    expected = (": the default set in", "to ONNX, once", "measuring the", "continues", "varies")
    assert all(any(part in line for part in expected) for line in notes.splitlines()[:-1])
    assert said == ""
    assert not list(tmp_path.iterdir())


def samples_of(path):
    return audio.decode(path, 22050)


def test_a_recording_is_continued(run, recordings, music, tmp_path):
    arguments = ["--prompt", recordings / "song.mp3", "--prompt-seconds", 1, "--prompt-start", 0.5,
                 "--seconds", 2,
                 "--generators", "generator_32", "--seed", 1, "--output"]
    code, said, notes = run(*arguments, tmp_path / "a.wav")
    assert code == 0, notes
    assert said.splitlines() == ["seed 1", f"wrote {tmp_path / 'a.wav'}: 2.00 s, 44100 samples"]
    assert f"continues {recordings / 'song.mp3'}: 1.00 s from 0.5 s on" in notes.splitlines()
    prompt = music.prompt(recordings / "song.mp3", seconds=1, start=0.5, level=32)
    piece = music.generate(begin=prompt, seconds=2, level=32, seed=1)
    np.testing.assert_array_equal(audio.to_u16(samples_of(tmp_path / "a.wav")), audio.to_u16(piece))
    assert run(*arguments, tmp_path / "b.wav", "--keep-original")[0] == 0
    song = samples_of(recordings / "song.mp3")[11025:]
    np.testing.assert_allclose(samples_of(tmp_path / "b.wav")[:19000], song[:19000], atol=1e-4)


def test_a_recording_is_varied(run, recordings, music, tmp_path):
    keep = 128
    code, said, notes = run("--variation-of", recordings / "song.mp3", "--keep", keep, "--seed", 1,
                            "--output",
                            tmp_path / "a.wav")
    assert code == 0, notes
    assert f"keeping the codes at {keep}x" in notes
    song = samples_of(recordings / "song.mp3")
    assert len(samples_of(tmp_path / "a.wav")) == len(song) and f"{len(song)} samples" in said
    piece = music.generate(begin=music.source(recordings / "song.mp3", keep), seed=1)
    np.testing.assert_array_equal(audio.to_u16(samples_of(tmp_path / "a.wav")), audio.to_u16(piece))


def test_a_midi_file_is_written_beside_the_sound_or_where_midi_names(run, tmp_path):
    line = ["--seconds", 0.5, "--seed", 1, "--generators", "generator_512", "--output"]
    for name, words, scores in (("a.wav", ["--midi"], ["a.mid"]),
                                ("b.wav", ["--midi", tmp_path / "c.midi"], ["c.midi"]),
                                ("d.wav", ["--batch", 2, "--midi", tmp_path / "e.mid"],
                                 ["e_1.mid", "e_2.mid"])):
        before = {*tmp_path.iterdir()}
        code, said, notes = run(*line, tmp_path / name, *words)
        assert code == 0 and all(f"wrote {tmp_path / score}: " in said for score in scores), notes
        added = {*tmp_path.iterdir()} - before
        assert sorted(path.name for path in added if path.suffix != ".wav") == scores
    assert "c.midi: exists" in run(*line, tmp_path / "f.wav", "--midi", tmp_path / "c.midi")[2]


BLOCK = load_preset("tiny").chain.block
CHANGES = [[BLOCK, {"loudness": -9}], [2 * BLOCK, {"hold": 0.4}],
           [4 * BLOCK, {"hold": 0, "jump": 2**62 + 1}],
           [5 * BLOCK, {"sampling": {"512": {"temperature": 1.4, "top_p": 0.9}}}]]


def test_a_session_is_replayed(run, music, tmp_path):
    (tmp_path / "score.json").write_text(json.dumps({"seed": 5, "changes": CHANGES}))
    changes = Session.read(tmp_path / "score.json").changes
    assert changes[-1][1] == {"sampling": {"512": {"temperature": 1.4, "top_p": 0.9}}}
    with music.stream(level=128, seed=5, seconds=3.0, past=4) as stream:
        piece = np.concatenate(list(session.replay(stream, changes)))
    audio.write(tmp_path / "made.wav", piece, 22050)
    score = ["--replay", tmp_path / "score.json", "--generators", "generator_128", "--seconds", 3]
    code, said, notes = run(*score, "--output", tmp_path / "again.wav")
    assert code == 0 and "seed 5\n" in said, notes
    performed, repeated = (soundfile.read(tmp_path / f"{name}.wav")[0]
                           for name in ("made", "again"))
    np.testing.assert_array_equal(repeated, performed)
    assert run(*score, "--seed", 6, "--output", tmp_path / "other.wav")[1].startswith("seed 6\n")
    assert (tmp_path / "other.wav").read_bytes() != (tmp_path / "made.wav").read_bytes()


@pytest.mark.parametrize("text, message", [
    (None, "score.json: cannot be read"),
    (b"\xff", "score.json: not valid JSON"),
    ('{"seed": 1, "changes": [[0, {"loudness": -3}], [9, {"loudness": 99}]]}',
     "change 2 of the session: loudness is 99"),
    ('{"seed": 1, "changes": [[0, {"hold": 1}]]}', "change 1 of the session: there is nothing to "
                                                   "hold yet"),
])
def test_a_broken_session_is_refused_before_any_music(run, tmp_path, text, message):
    score = tmp_path / "score.json"
    if text is not None:
        score.write_bytes(text if isinstance(text, bytes) else text.encode())
    code, said, notes = run("--replay", score, "--length", 99, "--output", tmp_path / "a.wav")
    *told, error = notes.strip().splitlines()
    assert code == 2 and message in error and "Traceback" not in notes and not said, notes
    assert all("vqvae" in line for line in told) and not (tmp_path / "a.wav").exists()


def test_files_are_replaced_only_with_force(run, tmp_path):
    output = tmp_path / "out.wav"
    output.write_bytes(b"a take")
    line = ["--seconds", "0.2", "--seed", 1, "--output", output]
    code, _, said = run(*line)
    assert code == 2 and said == (f"{Path(sys.argv[0]).name}: {output}: exists; name another "
                                  f"file, or replace this one with --force\n")
    assert output.read_bytes() == b"a take"
    assert run(*line, "--force")[0] == 0
    assert output.read_bytes() != b"a take"
    (tmp_path / "out_2.wav").touch()
    assert "out_2.wav: exists" in run(*line, "--batch", 2)[2]
    assert not (tmp_path / "out_1.wav").exists()
    # The recording that a piece begins with is kept whatever is told.
    song = tmp_path / "song.flac"
    audio.write(song, prepared.music(2.0, 3, 22050), 22050)
    before = song.read_bytes()
    for flag in ("--prompt", "--variation-of", "--score-from"):
        code, _, said = run(flag, song, "--seconds", 1, "--output", song, "--force")
        assert code == 2 and "is the recording itself" in said
    assert song.read_bytes() == before
    assert "--force needs --record" in run("--seconds", 1, "--force")[2]
    assert "out.wav: exists" in run("--record", output)[2]
