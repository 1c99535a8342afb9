import json
from functools import partial

import imported
import pytest
from prepared import data_folder, music
from research import compare_codecs

from vqwave.io import weights
from vqwave.report import fad


@pytest.fixture
def corpora(tmp_path):
    """Two data folders, each with a split beside it: "t" tests, "v" validates, "a" trains."""
    for n, name in enumerate(("one", "two")):
        data_folder(tmp_path / name, {f"{track} {name}": music(1.0, 10 * n + i)
                                      for i, track in enumerate("atv")})
        (tmp_path / f"{name}.yml").write_text(f"test: [t {name}]\nvalidation: [v {name}]\n")
    return tmp_path


@pytest.fixture
def compare(corpora, tiny_weights, monkeypatch, capsys):
    monkeypatch.setattr(fad, "load_if_available", lambda path=None, warn=print: None)

    weights.copy_as_best(weights.find(tiny_weights.codecs, "vqvae_32"), corpora / "copy")
    return partial(imported.run, capsys, "research.compare_codecs", "--codecs", f"tiny={tiny_weights.codecs}",
                   f"copy={corpora / 'copy'}", f"copy={corpora / 'copy'}", "--data-dirs", corpora / "one",
                   corpora / "two", "--splits", corpora / "one.yml", corpora / "two.yml", "--output-dir", corpora)


def test_every_codec_is_measured_on_every_corpus(compare, corpora):
    tracks = compare_codecs.TestTracks(corpora / "one", corpora / "one.yml")
    assert [t.file for t in tracks.tracks] == ["t one.ogg.u16"]
    weights.add_to_record(weights.find(corpora / "copy", "vqvae_32"), tracks=[tracks.tracks[0].sha256[:16]])
    code, printed, error = compare("--json")
    assert code == 0, error
    rows = json.loads(printed)
    assert len(rows) == 2 * (4 + 1 + 1 + 2)  # tiny, twice the copy, Opus and MP3
    assert {row["codecs"] for row in rows} == {"tiny", "copy", "Opus 6", "MP3 8"}
    leaked = {(row["codecs"], row["corpus"]): row.get("leaked") for row in rows}
    assert leaked["copy", "one"] == "t one" and leaked["copy", "two"] is None
