import numpy as np
from prepared import data_folder, music
from research import parts

from vqwave import cli


def pieces(rng, centre, count=6):
    return [centre + 0.1 * rng.normal(size=(5, 4)) for _ in range(count)]


def test_what_sounds_like_its_part_is_named(rng):
    centres = {("one", "one/a"): 0, ("one", "one/b"): 1, ("two", "two/c"): 2}
    heard = {kind: {key: pieces(rng, np.eye(4)[number]) for key, number in centres.items()} for kind in ("first halves", *parts.KINDS)}
    heard["performances"] = {key: pieces(rng, np.eye(4)[0]) if key[0] == "one" else [] for key in centres}
    figures = parts.name_all(heard)
    assert {*parts.BOUNDS} < {*figures} and len(figures) == 6
    assert figures.pop("part named, performances") == 0.5 and {*figures.values()} == {1}


def test_the_page_names_what_was_performed(tiny_weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(parts, "PIECE_SECONDS", 3.2)
    monkeypatch.setattr(parts.fad, "load", lambda path: lambda sound, rate: parts.fad.patches(sound, rate).mean(1))
    data_folder(tmp_path / "songs", {name: music(9.0, i) for i, name in enumerate("abt")})
    (tmp_path / "songs.yml").write_text("test: [t]\n")
    arguments = ["--data-dirs", str(tmp_path / "songs"), "--splits", str(tmp_path / "songs.yml"), "--output-dir", str(tmp_path),
                 "--vqvae-weights-dir", str(tiny_weights.codecs), "--generator-weights-dir", str(tiny_weights.generators)]
    assert cli.entry(parts.main, arguments) == 0, capsys.readouterr().err
    page = (tmp_path / "research/results/parts.md").read_text(encoding="utf-8")
    assert "1 soundtracks and 2 parts. Performed were parts of: none" in page and "| part named, second halves |" in page
