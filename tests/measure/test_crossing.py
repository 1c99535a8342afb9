"""measure/crossing.py and compare_codecs.py: codecs of several folders on several corpora."""

import json

import pytest
from prepared import data_folder, music

from vqwave import cli, commands, weights
from vqwave.measure import crossing, serving


@pytest.fixture
def corpora(tmp_path):
    """Two data folders, each with a split beside it: "t" tests, "v" validates, "a" trains."""
    for n, name in enumerate(("one", "two")):
        data_folder(tmp_path / name, {f"{track} {name}": music(1.0, 10 * n + i)
                                      for i, track in enumerate("atv")})
        (tmp_path / f"{name}.yml").write_text(f"test: [t {name}]\nvalidation: [v {name}]\n")
    return tmp_path


@pytest.fixture
def main(corpora, tiny_weights, monkeypatch, capsys):
    """The command, on both corpora, into a folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.setattr(serving, "load_embedder", lambda path, say: None)

    def run(*more):
        try:
            code = cli.entry(commands.load("compare_codecs").main, [
                "--codecs", f"tiny={tiny_weights.codecs}", f"again={corpora / 'again'}",
                "--data-dirs", str(corpora / "one"), str(corpora / "two"),
                "--splits", str(corpora / "one.yml"), str(corpora / "two.yml"),
                "--output-dir", str(corpora), *more])
        except SystemExit as e:  # as argparse leaves
            code = e.code
        said = capsys.readouterr()
        return code, said.out, said.err

    for name in weights.chain(tiny_weights.codecs).codecs.values():
        weights.take_over(weights.find(tiny_weights.codecs, name), corpora / "again")
    return run


def test_every_codec_is_measured_on_the_test_tracks_of_every_corpus(main, corpora, tiny_weights):
    own = crossing.Corpus.of(corpora / "one", corpora / "one.yml")
    assert [t.file for t in own.tracks] == ["t one.ogg.u16"]
    # One of them was trained on a test track of the first corpus.
    again = weights.find(corpora / "again", "vqvae_32")
    weights.note(again, tracks=[own.tracks[0].sha256[:16]])
    code, said, _ = main("--json")
    rows = json.loads(said)
    assert code == 0 and not (corpora / "RESULTS.md").exists()
    assert [(row["corpus"], row["codecs"]) for row in rows[::4]] == [
        ("one", "tiny"), ("one", "again"), ("two", "tiny"), ("two", "again")]
    assert [row["level"] for row in rows[:4]] == [512, 128, 32, 8]
    known = {(row["corpus"], row["codecs"], row["level"]): row["known"] for row in rows}
    assert known["one", "again", 32] == ["t one"] and known["two", "again", 32] == []
    # The same codecs measure the same, and each corpus is another.
    assert rows[0]["mel"] == rows[4]["mel"] != rows[8]["mel"]
    assert {row["seconds"] for row in rows} == {1.0}

    code, said, _ = main()
    assert code == 0 and said == f"wrote {corpora / 'RESULTS.md'}\n"
    page = (corpora / "RESULTS.md").read_text(encoding="utf-8")
    assert page.count(f"evaluate.py: {crossing.SECTION} -->") == 1
    assert "### one: 1 tracks, 1 s" in page and "| 32x | again\\* |" in page
    assert "\\* Trained on some of these tracks." in page
    assert "python scripts/compare_codecs.py --codecs tiny=" in page and "--output-dir" not in page
    # Written again it replaces itself.
    main()
    assert (corpora / "RESULTS.md").read_text(encoding="utf-8").count("### one") == 1


def test_validation_tracks_are_measured_without_a_trace(main, corpora):
    code, said, _ = main("--side", "validation")
    assert code == 0 and "### two: 1 tracks" in said and not (corpora / "RESULTS.md").exists()


def test_what_a_user_can_get_wrong_is_one_line(main, corpora):
    for more, why in ((("--codecs", "here"), "'here' is not a name and a folder, NAME=DIR"),
                      (("--splits", str(corpora / "one.yml")), "names 1 files for 2 data folders"),
                      (("--codecs", f"no={corpora / 'none'}"), "none"),
                      (("--splits", str(corpora / "no.yml"), str(corpora / "one.yml")), "no.yml")):
        code, _, said = main(*more)
        assert code == 2 and why in said and len(said.splitlines()) == 1
    (corpora / "two.yml").write_text("excluded: [t two]\n")
    code, _, said = main()
    assert code == 2 and "holds no track out" in said and len(said.splitlines()) == 1
