
import pytest
from encoded import encode
from imported import run
from prepared import music

from vqwave import plots
from vqwave.play import midi_files


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    root = tmp_path_factory.mktemp("songs")
    (root / "more").mkdir()
    for i, name in enumerate(("a song.mp3", "b.wav", "more/a song.mp3")):
        encode(root / name, music(2.0 + i, i, 44100))
    (root / "cover.txt").write_text("no music")
    return root


def test_a_folder_of_music_is_drawn_each_file_by_its_name(capsys, songs, tmp_path):
    output = tmp_path / "picture.svg"
    code, printed, _ = run(capsys, "plot", "spectrograms", songs, "--start", 1, "--seconds",
                        0.5, "--output", output, "--title", "All")
    assert code == 0 and printed == f"wrote {output}\n"
    text = output.read_text(encoding="utf-8")
    for words in ("All", "b.wav", "<!-- a song.mp3 -->", "<!-- more/a song.mp3 -->"):
        assert words in text
    assert "cover" not in text


@pytest.fixture
def score(tmp_path):
    """A MIDI file with C4 from second 0 to 2 and E4 from second 4 to 6."""
    midi_files.write(tmp_path / "score.mid", [(0, 2, 60, 73), (4, 6, 64, 73)], 1)
    return tmp_path / "score.mid"


def test_the_notes_of_a_midi_file_are_drawn_beside_those_of_a_recording(capsys, songs, score, tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(plots, "notes", lambda rolls, *_: drawn.update(rolls))
    code, _, _ = run(capsys, "plot", "notes", score, songs / "b.wav", "--start", 1, "--seconds", 4, "--output", tmp_path / "a.svg")
    roll = drawn["score.mid"]
    assert code == 0 and roll.start == drawn["b.wav"].start == 1
    assert roll.length == pytest.approx(4, abs=0.01)
    for values, expected in ((roll.time, [1, 4]), (roll.seconds, [1, 1]), (roll.midi, [60, 64])):
        assert list(values) == pytest.approx(expected, abs=0.01)


def test_the_curves_of_a_run_and_of_one_model_are_drawn(capsys, tmp_path):
    (tmp_path / "vqvae_8.csv").write_text("epoch,loss,mel,val_loss\n0,3,2,4\n1,2,1,3\n2,1.")
    for given in (tmp_path, tmp_path / "vqvae_8.csv"):
        output = tmp_path / f"{given.name}.svg"
        code, _, _ = run(capsys, "plot", "curves", given, "--output", output)
        assert code == 0 and "vqvae_8" in output.read_text(encoding="utf-8")


def test_user_errors_are_one_line_and_draw_nothing(capsys, songs, score, tmp_path):
    output = tmp_path / "a.png"
    (tmp_path / "empty").mkdir()
    for arguments, why in [
        (["spectrograms", songs, "--output", tmp_path / "a.jpg"], "must end in .png or .svg"),
        (["spectrograms", songs, "--output", tmp_path / "no" / "a.png"], "there is no folder"),
        (["spectrograms", tmp_path / "empty", "--output", output], "holds no music"),
        (["spectrograms", tmp_path / "none.mp3", "--output", output], "no such file"),
        (["spectrograms", songs, "--start", 60, "--output", output], "lasts 2.0 s"),
        (["curves", tmp_path / "empty", "--output", output], "no epoch"),
        (["notes", score, "--start", 6.5, "--output", output], "has no notes between second 6.5 and 36.5"),
        (["notes", score, "--start", 2.5, "--seconds", 1, "--output", output], "has no notes between second 2.5 and 3.5"),
    ]:
        code, printed, notes = run(capsys, "plot", *arguments)
        assert (code, printed) == (2, "") and why in notes.splitlines()[-1]
        assert len(notes.splitlines()) == 1 and not list(tmp_path.glob("*.png"))
