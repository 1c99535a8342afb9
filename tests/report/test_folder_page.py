import base64
import re
import shutil

import numpy as np
import pytest
from chains import save_levels
from prepared import data_folder, music

from vqwave import cli, commands
from vqwave.commands import evaluate
from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.report import fad, folder_page
from vqwave.report.folder_page import Results


@pytest.fixture(scope="module")
def models(trained, tmp_path_factory):
    """The folder of the trained models of the two upper levels."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(trained.weights, folder, dirs_exist_ok=True)
    save_levels(folder, weights.chain(trained.weights), 2)
    return folder


def embed(sound, rate):
    """Four patches of two numbers that depend on the sound."""
    return np.array([[part.mean(), part.std()] for part in np.array_split(sound, 4)])


def filled(**more):
    """A summary of which nothing stands out."""
    codec = {"model": "a", "suitable": True, "shortfall": "", "notes": 0.9, "mel": 0.3, "distance": None}
    figures = {"pause": 0.0, "pause_peak_db": None, "end_db": -20.0, "loudness_db": [-20.0],
              "clipped": 0.0}
    values = {"codecs": [codec], "generators": [{"model": "g", "unseen": [], "epoch": 3, "bits": 5.0,
                                                 "before": 6.0}],
              "distance": {"generated": 15.0, "training": 10.0, "seconds": 60.0}, "health": figures,
              "clarity": {"contrast": 3.4, "whistle": 0.37},
              "copies": [{"level": 512, "seconds": 1.0, "held_out_seconds": 0.5, "transpose": 0}]}
    return Results(9, 0.5, 1, 0.1, 22050, 512, **values | more)


def test_advice_follows_from_the_measurements():
    assert list(folder_page.advise(filled())) == []
    codec = filled().codecs[0] | {"suitable": False, "shortfall": "notes 0.3, wanted 0.6"}
    for change, words in (
            ({"codecs": [codec]}, "a loses much of this music (notes 0.3, wanted 0.6)"),
            ({"generators": [filled().generators[0] | {"epoch": 0}]}, "g did not improve"),
            ({"generators": [filled().generators[0] | {"unseen": ["x", "y"]}]},
             "g was not trained on 2 of the 9 tracks (x, y)"),
            ({"distance": {"generated": 40.0, "training": 10.0, "seconds": 9.0}}, "4.0 times as far"),
            ({"copies": [{"level": 512, "seconds": 9.0, "held_out_seconds": 1.0, "transpose": 3}]},
             "At 512x 9.0 s are copied from a training track: more music, or a higher"),
            ({"copies": [filled().copies[0] | {"seconds": 9.0, "held_out_seconds": None}]},
             "transposition (--transpose 3)"),
            ({"health": filled().health | {"end_db": -90.0}}, "ends in silence")):
        [line] = folder_page.advise(filled(**change))
        assert words in line
    results = filled()
    results.held_out = 0
    assert "Nothing was held out" in next(folder_page.advise(results))
    [line] = folder_page.advise(filled(overlaps=["one was trained on 2 of the 3 held-out tracks"]))
    assert "use the --val-split" in line


def test_the_verdict_is_one_sentence():
    assert folder_page.verdict(filled()) == (
        "On pieces of yours that it has never heard, it keeps 90% of the notes, makes music 1.5 times as far from "
        "them as your other tracks are and copies no long passage.")
    copy = filled().copies[0] | {"seconds": 9.0}
    assert "copies up to 9 s of a track." in folder_page.verdict(filled(copies=[copy], distance=None))
    words = folder_page.verdict(filled(overlaps=["one was trained on them"], health=filled().health | {"end_db": -90.0}))
    assert words.startswith("On pieces of yours, it keeps") and words.endswith("and has a fault: ends in silence.")


def test_a_page_embeds_its_files_and_escapes_text(tmp_path):
    results = filled(pieces={1: music(1.0, 1), 2: music(1.0, 2)}, continuation=music(1.0, 3),
                  original=music(1.0, 4), advice=["more <music>"], overlaps=["a knows <b>"])
    (tmp_path / "g.csv").write_text("epoch,loss,val_loss\n0,3,2.5\n1,2,2.2\n")
    path = tmp_path / "new" / "report.html"
    folder_page.write(results, path, "mine & <yours>", tmp_path, ["g"])
    page = path.read_text(encoding="utf-8")
    assert "mine &amp; &lt;yours&gt;" in page and "more &lt;music&gt;" in page and "a knows &lt;b&gt;." in page
    assert page.count("<audio") == 4
    assert re.findall(r'alt="The notes of: ([\w ]+)', page) == [
        "Your music", "A new piece", "Your music", "A new piece"]
    assert 'class="plot" alt="Training curves"' in page
    assert page.index("1.5 times as far") < page.index("<audio") < page.index("<table")
    # Nothing is loaded from elsewhere.
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(source.startswith("data:") for source in sources)
    assert "http" not in re.sub(r'src="[^"]*"', "", page)
    mp3 = next(x for x in sources if x.startswith("data:audio/mpeg;base64,"))
    assert len(base64.b64decode(mp3.split(",")[1])) > 1000
    for words in ("1.5 times as far", "<td>512</td>", "5.00", "6.00", "<td>0.37</td>"):
        assert words in page
    with pytest.raises(UserError, match="is a folder"):
        folder_page.write(results, tmp_path, "mine")
    with pytest.raises(UserError, match="is a folder"):
        evaluate.report(None, None, None, None, 0, html=tmp_path)  # before it measures


def test_the_page_of_a_trained_folder_holds_pieces(trained, models, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fad, "load_if_available", lambda path, say: None)
    path = tmp_path / "report.html"
    code = cli.entry(commands.load("evaluate").main, [
        "--data-dir", str(trained.data), "--vqvae-weights-dir", str(models),
        "--generator-weights-dir", str(models), "--html", str(path), "--minutes", "0.1"])
    assert code == 0, capsys.readouterr().err
    page = path.read_text(encoding="utf-8")
    assert "What to try next" in page and page.count("<audio") == 5
    for name in weights.chain(models).names:
        assert name in page
    printed = capsys.readouterr().out
    assert f"wrote {path}" in printed
    assert "whistle of vqvae_512" in printed and "contrast error of generated music" in printed


@pytest.mark.large
def test_a_page_of_one_track_compares_with_nothing(models, tmp_path, capsys, monkeypatch):
    written = []
    write = folder_page.write
    monkeypatch.setattr(fad, "load_if_available", lambda path, say: embed)
    monkeypatch.setattr(folder_page, "write", lambda results, *more: (
        written.append(results), write(results, *more)))
    data_folder(tmp_path / "one", {"song": music(8.0, 1)})
    path = tmp_path / "report.html"
    code = cli.entry(commands.load("evaluate").main, [
        "--data-dir", str(tmp_path / "one"), "--vqvae-weights-dir", str(models),
        "--generator-weights-dir", str(models), "--html", str(path), "--minutes", "0.3"])
    assert code == 0, capsys.readouterr().err
    [results] = written
    assert results.distance["training"] is None and results.distance["generated"] > 0
    assert [row["held_out_seconds"] for row in results.copies] == [None] * len(results.copies)
    page = path.read_text(encoding="utf-8")
    assert "s of the training tracks: " in page and "times as far" not in page
    assert "Nothing was held out" in page and "Held-out music shows" not in page
