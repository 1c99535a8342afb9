"""report/maps.py and its picture: the sounds of codes on a map, and whether neighbours are similar."""

import imported
import numpy as np
import pytest
import soundfile
from prepared import music

from vqwave import cli
from vqwave import config as configs
from vqwave.config import ChainConfig, ChainLevel
from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.nn.codec import Codec
from vqwave.report import maps


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    """The folder of a codec whose 12 codes lie on a map, from latents of music."""
    folder = tmp_path_factory.mktemp("mapped")
    config = configs.replace(configs.preset("tiny").codec(8),
                             quantizer={"kind": "som", "num_codes": 12, "code_dim": 8})
    codec = Codec(config)
    codec(music(0.5)[None, :8192], training=True)
    weights.save(folder, config.name, "", codec.parts, config)
    weights.save_chain(folder, ChainConfig(sample_rate=22050, block=8192, levels=[
        ChainLevel(level=8, codec=config.name)]))
    return folder, codec


def test_similar_neighbours_have_a_lower_ratio_than_a_shuffled_map(rng):
    row, column = np.divmod(np.arange(48), 8)
    spectra = np.stack([row, column, np.zeros(48)], axis=1)
    assert maps.neighbour_ratio(spectra, (6, 8)) < 0.35
    assert maps.neighbour_ratio(rng.permutation(spectra), (6, 8)) == pytest.approx(1.0, abs=0.15)


def test_the_topographic_error_is_that_of_the_latents(mapped):
    folder, codec = mapped
    sound = music(1.0, 3)
    latents = np.asarray(codec.encoder(codec.front_end(sound[None, : len(sound) // 8 * 8])))[0]
    codebook = codec.quantizer.codebook.numpy()
    nearest = np.argsort(((latents[:, None] - codebook) ** 2).sum(-1), axis=1)[:, :2]
    rows, columns = np.divmod(nearest, codec.config.quantizer.grid[1])
    expected = np.mean((np.abs(np.diff(rows)) > 1) | (np.abs(np.diff(columns)) > 1))
    error = maps.topographic_error(weights.find(folder, "vqvae_8"), [sound])
    assert error == pytest.approx(expected, abs=2e-3)
    with pytest.raises(UserError, match="shorter than a frame"):
        maps.topographic_error(weights.find(folder, "vqvae_8"), [sound[:3]])


def test_the_map_is_drawn_and_its_figures_are_printed(mapped, tmp_path, capsys):
    soundfile.write(tmp_path / "song.wav", music(1.0, 3), 22050)
    picture = tmp_path / "map.svg"
    assert cli.entry(imported.script("plot").main, [
        "map", str(tmp_path / "song.wav"), "--vqvae-weights-dir", str(mapped[0]),
        "--output", str(picture)]) == 0
    assert "vqvae_8: topographic error 0." in capsys.readouterr().out
    assert "3 x 4 codes" in picture.read_text(encoding="utf-8")


def test_a_codec_without_a_map_is_refused_by_name():
    tiny = configs.preset("tiny").codec(8)
    with pytest.raises(UserError, match="vqvae_8 has the quantizer ema; a map needs som"):
        maps.check_map(tiny)
