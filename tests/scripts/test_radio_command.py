import shutil
from pathlib import Path

import pytest

from vqwave.commands import radio as command
from vqwave.errors import UserError
from vqwave.studio import radio


@pytest.fixture
def start(monkeypatch):
    """Run the command: {name of a group of stations: its stream}. numbers: those of all stations."""
    streams = {}

    def group(name, count, seed, open_stream, sample_rate, first, **_):
        streams[name] = open_stream()
        streams[name].close()
        start.numbers += range(first, first + count)

    monkeypatch.setattr(command.stations, "StationGroup", group)
    monkeypatch.setattr(radio, "Radio", lambda groups, most: None)
    monkeypatch.setattr(radio, "run", lambda *_, **__: None)

    def start(*words):
        start.numbers = []
        assert command.main([*map(str, words)]) == 0
        return streams

    return start


def test_each_folder_plays_its_own_weights_in_any_order(start, tiny_weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("weights", "weights/mine"):
        shutil.copytree(tiny_weights.generators, folder)
    for folders in (["weights/mine", "weights"], ["weights", "weights/mine"]):
        streams = start("--vqvae-weights-dir", tiny_weights.codecs, "--stations", 3, "--generator-weights-dir", *folders)
        assert start.numbers == [1, 2, 3, 4, 5, 6]
        for folder in folders:
            generators = streams[folder].queued.generators
            assert {engine.weight_set.folder for engine in generators} == {Path(folder)}


@pytest.mark.parametrize("words, error", [
    (["--label", "calm"], "was trained without labels, so it takes no label"),
    (["--guidance", 2], "--guidance needs --label"),
])
def test_unknown_labels_and_guidance_are_refused_before_serving(start, tiny_weights, words, error):
    with pytest.raises(UserError, match=error):
        start("--vqvae-weights-dir", tiny_weights.codecs, "--generator-weights-dir",
              tiny_weights.generators, *words)
