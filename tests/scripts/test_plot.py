import shutil

import pytest
from encoded import encode
from imported import run
from prepared import music


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    root = tmp_path_factory.mktemp("songs")
    (root / "more").mkdir()
    for i, name in enumerate(("a song.mp3", "b.wav", "more/a song.mp3")):
        encode(root / name, music(2.0 + i, i, 44100))
    (root / "cover.txt").write_text("no music")
    return root


@pytest.mark.parametrize("kind", ["waveforms", "spectrograms"])
def test_a_folder_of_music_is_drawn_each_file_by_its_name(capsys, songs, tmp_path, kind):
    output = tmp_path / "picture.svg"
    code, printed, _ = run(capsys, "plot", kind, songs, "--start", 1, "--seconds",
                        0.5, "--output", output, "--title", "All")
    assert code == 0 and printed == f"wrote {output}\n"
    text = output.read_text(encoding="utf-8")
    for words in ("All", "b.wav", "<!-- a song.mp3 -->", "<!-- more/a song.mp3 -->"):
        assert words in text
    assert "cover" not in text


def test_unreadable_files_are_left_out_and_reported(capsys, songs, tmp_path):
    folder = tmp_path / "some"
    shutil.copytree(songs, folder)
    (folder / "empty.mp3").touch()
    (folder / "noise.ogg").write_bytes(b"noise" * 99)
    for kind in ("waveforms", "spectrograms"):
        output = tmp_path / f"{kind}.svg"
        code, printed, notes = run(capsys, "plot", kind, folder, "--start", 2.5, "--output", output)
        assert code == 0 and printed == f"wrote {output}\n"
        assert [line.split(": ")[:2] for line in notes.splitlines()] == [
            ["left out", f"{folder / name}"] for name in ("a song.mp3", "empty.mp3", "noise.ogg")]
        assert "b.wav" in output.read_text(encoding="utf-8")


def test_the_curves_of_a_run_and_of_one_model_are_drawn(capsys, tmp_path):
    (tmp_path / "vqvae_8.csv").write_text("epoch,loss,mel,val_loss\n0,3,2,4\n1,2,1,3\n2,1.")
    for given in (tmp_path, tmp_path / "vqvae_8.csv"):
        output = tmp_path / f"{given.name}.svg"
        code, _, _ = run(capsys, "plot", "curves", given, "--output", output)
        assert code == 0 and "vqvae_8" in output.read_text(encoding="utf-8")


def test_user_errors_are_one_line_and_draw_nothing(capsys, songs, tmp_path):
    output = tmp_path / "a.png"
    (tmp_path / "empty").mkdir()
    for arguments, why in [
        (["waveforms", songs, "--output", tmp_path / "a.jpg"], "must end in .png or .svg"),
        (["waveforms", songs, "--output", tmp_path / "no" / "a.png"], "there is no folder"),
        (["waveforms", tmp_path / "empty", "--output", output], "holds no music"),
        (["waveforms", tmp_path / "none.mp3", "--output", output], "no such file"),
        (["spectrograms", songs, "--start", 60, "--output", output], "lasts 2.0 s"),
        (["curves", tmp_path / "empty", "--output", output], "no epoch"),
    ]:
        code, printed, notes = run(capsys, "plot", *arguments)
        assert (code, printed) == (2, "") and why in notes.splitlines()[-1]
        assert len(notes.splitlines()) == 1 and not list(tmp_path.glob("*.png"))
