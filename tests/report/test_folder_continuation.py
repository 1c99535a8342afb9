
import numpy as np
import pytest
from prepared import data_folder, music

from vqwave.io import manifest, weights
from vqwave.play import api
from vqwave.report import folder_page


@pytest.fixture(scope="module")
def half_trained(tmp_path_factory, tiny_weights):
    """A folder that a training made, and its data: the two coarsest levels of four are there."""
    root = tmp_path_factory.mktemp("trained")
    data_folder(root / "data", {f"t{i}": music(3.0, i) for i in range(3)})
    for folder, kind in ((tiny_weights.codecs, "vqvae"), (tiny_weights.generators, "generator")):
        for level in (512, 128):
            weights.copy_as_best(weights.find(folder, f"{kind}_{level}"), root / "weights")
    return root


def load(folder):
    return api.load(folder, folder, epoch="best")


def test_a_held_out_track_is_continued_by_a_seed(half_trained, monkeypatch):
    monkeypatch.setattr(folder_page, "CONTINUED_SECONDS", 2.0)
    music, tracks = load(half_trained / "weights"), manifest.read(half_trained / "data")
    sounds = [folder_page.continue_track(music, half_trained / "data", tracks[:1], seed) for seed in (1, 1, 2)]
    assert len(sounds[0]) == 2 * 22050 and np.array_equal(*sounds[:2])
    assert not np.array_equal(sounds[0], sounds[2])
    assert folder_page.continue_track(music, half_trained / "data", []) is None
