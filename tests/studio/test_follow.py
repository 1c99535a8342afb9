"""The studio over a training that runs: its newest best sets are what plays."""

import pytest
from prepared import save_numbers

from vqwave.commands import studio as command
from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.presets import load_preset
from vqwave.studio import Studio

TINY = load_preset("tiny")


def save(folder, level, tag, value):
    for model in (TINY.codec(level), TINY.generator(level)):
        save_numbers(folder, model, tag, value)


def checksum(studio, folder, epoch=""):
    return studio.folders.models(str(folder), epoch).music.weight_set("generator_512").checksum


def test_new_takes_use_the_newest_best_sets_of_a_followed_folder(tmp_path):
    other, followed = tmp_path / "other", tmp_path / "followed"
    for folder in (other, followed):
        for level in TINY.chain.sizes:
            for tag, value in (("", 1), ("best", 2)):
                save(folder, level, tag, value)
        weights.save_chain(folder, TINY.chain)
    studio = Studio(other, [other], follow=followed)
    try:
        assert list(studio.folders.paths) == [str(followed), str(other)]
        before = studio.about()["newest"]
        best, shipped = (weights.find(followed, "generator_512", epoch).checksum
                         for epoch in ("best", None))
        assert checksum(studio, followed) == best != shipped
        assert checksum(studio, other) == shipped  # another folder plays what it always does
        save(followed, 512, "best", 3)
        assert studio.about()["newest"] != before == before
        assert checksum(studio, followed) == weights.find(followed, "generator_512",
                                                          "best").checksum != best
    finally:
        studio.close()
    alone = Studio(other, [other])
    assert alone.about()["newest"] is None
    alone.close()
    with pytest.raises(UserError, match="nothing: holds no generators to follow yet"):
        Studio(other, [other], follow=tmp_path / "nothing")


def test_a_followed_training_is_awaited_until_its_first_generator(tmp_path, monkeypatch, capsys):
    folder, waits, served = tmp_path / "mine", [], []

    def sleep(seconds):
        """The training goes on: codecs first, then the generator of the top."""
        waits.append(seconds)
        if len(waits) == 2:
            weights.save_chain(folder, TINY.chain)
            for level in TINY.chain.sizes:
                save(folder, level, "", 1)

    def run(studio, *args, **options):
        served.append(studio.about()["folders"][0]["name"])

    monkeypatch.setattr(command.time, "sleep", sleep)
    monkeypatch.setattr(command.web, "run", run)
    asked = ["--follow", str(folder)]
    with pytest.raises(UserError, match="mine: no such folder"):
        command.main(asked)
    folder.mkdir()
    assert command.main(asked) == 0
    assert (len(waits), served) == (2, [str(folder)])
    assert capsys.readouterr().out.count("no generators to play yet; waiting") == 1
    assert command.main(asked) == 0 and len(waits) == 2, "what plays is served at once"
