"""radio.py until it would serve: the weights of its stations, and user errors."""

import shutil
from pathlib import Path

import pytest

from vqwave.commands import radio as command
from vqwave.errors import UserError
from vqwave.play.api import VQWave
from vqwave.studio import radio


@pytest.fixture
def start(monkeypatch):
    """Run the command: {name of a group of stations: its folder of generators}."""
    opened = {}

    def group(name, count, seed, open_stream, **_):
        opened[name] = open_stream()

    monkeypatch.setattr(VQWave, "stream", lambda self, **_: self._generators)
    monkeypatch.setattr(command.stations, "Group", group)
    monkeypatch.setattr(radio, "Radio", lambda groups, most: None)
    monkeypatch.setattr(radio, "run", lambda *_, **__: None)

    def start(*words):
        assert command.main([*map(str, words)]) == 0
        return opened

    return start


def test_each_folder_plays_its_own_weights_in_any_order(start, tiny_weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("weights", "weights/mine"):
        shutil.copytree(tiny_weights.generators, folder)
    for folders in (["weights/mine", "weights"], ["weights", "weights/mine"]):
        opened = start("--vqvae-weights-dir", tiny_weights.codecs, "--generator-weights-dir", *folders)
        assert opened == {"weights": Path("weights"), "weights/mine": Path("weights/mine")}


@pytest.mark.parametrize("words, said", [
    (["--label", "calm"], "was trained without labels: there is none to choose"),
    (["--guidance", 2], "--guidance needs --label"),
])
def test_unknown_labels_and_guidance_are_refused_before_serving(start, tiny_weights, words, said):
    with pytest.raises(UserError, match=said):
        start("--vqvae-weights-dir", tiny_weights.codecs, "--generator-weights-dir",
              tiny_weights.generators, *words)


def test_stations_are_guided_at_each_level(start, tiny_weights, tmp_path, monkeypatch):
    """`check` refuses weights without labels, so it is called directly."""
    music = VQWave(tiny_weights.codecs, tiny_weights.generators)
    with pytest.raises(UserError, match="nothing for guidance to follow"):
        command.check(music, {}, 1, 2.0)
    monkeypatch.setattr(command, "check_guidance", lambda configs, sampling: sampling)
    asked = []
    monkeypatch.setattr(command, "check_chosen", lambda *_: None)
    monkeypatch.setattr(VQWave, "stream", lambda self, sampling, **_: asked.append(sampling))
    start("--vqvae-weights-dir", tiny_weights.codecs, "--generator-weights-dir",
          tiny_weights.generators, "--label", "calm", "--guidance", 2.5)
    assert {level: one.guidance for level, one in asked[0].items()} == dict.fromkeys(
        music.chain.sizes, 2.5)
