"""Comparisons of codecs with and without codes, of several folders, and of folders of codecs alone."""

from types import SimpleNamespace

import chains
import keras
import numpy as np
import pytest
from messages import read_messages, refusal

from vqwave.codecs.codec_layer import Codec
from vqwave.dsp import metrics
from vqwave.errors import UserError
from vqwave.io import audio, defaults, weights
from vqwave.levels import ChainConfig, replace
from vqwave.play import engine
from vqwave.presets import load_preset
from vqwave.studio import CompareRequest, Studio, pictures

TINY = load_preset("tiny")
RATE = TINY.chain.sample_rate
VAE = replace(TINY.codec(512), quantizer={"kind": "gaussian", "dim": 6})
LABELLED = replace(VAE, labels={"names": ["calm", "battle"]})


def save(folder, *codecs, seed=0):
    """Random weights of a chain of these codecs, the coarsest first, without generators."""
    folder.mkdir(parents=True)
    keras.utils.set_random_seed(seed)
    for config in codecs:
        if config.has_codes:
            chains.save_codec(folder, config)
        else:
            weights.save(folder, config.name, "", Codec(config).parts, config)
    levels = [{"level": codec.level, "codec": codec.name} for codec in codecs]
    weights.save_chain(folder, ChainConfig(sample_rate=codecs[0].sample_rate, block=8192,
                                           levels=levels))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_weights):
    """Folders of weights: `vae`, with labels, and a codec of codes; `codes`; and what plays."""
    root = tmp_path_factory.mktemp("weights")
    return SimpleNamespace(root=root, tiny=tiny_weights,
                           vae=save(root / "vae", LABELLED, TINY.codec(128)),
                           codes=save(root / "codes", TINY.codec(512), seed=1))


def compare(studio, song, **settings):
    """(the comparison, its sounds by name as (about, samples, what follows its spectrogram))."""
    frames = read_messages(studio.compare(CompareRequest(recording=studio.recordings.receive(song).id, **settings)))
    assert "end" in frames[-1][0], frames[-1][0]
    [comparison] = [about["comparison"] for about, _ in frames if "comparison" in about]
    samples, sounds = comparison["samples"], {}
    for about, payload in frames:
        if sound := about.get("sound"):
            sounds[sound["name"]] = (sound, np.frombuffer(payload, "<i2", samples),
                                     payload[2 * samples + sound["columns"] * pictures.PICTURE_BANDS :])
    return comparison, sounds


def heard_through(folder, name, song):
    """A recording through a codec and back, without a label: int16."""
    codec, original = engine.CodecEngine(weights.find(folder, name)), audio.decode(song, RATE)
    return audio.to_int16(codec.decode(codec.encode(original[None]))[0, : len(original)])


def test_a_codec_without_codes_is_heard_seen_and_measured(folders, song, open_studio):
    about, sounds = compare(open_studio(folders.vae, [folders.vae]), song)
    assert list(sounds) == ["original", "512", "128"]
    vae, pcm, rest = sounds["512"]
    assert vae["columns"] > 0 and rest == b"" and vae["codes"] == 0 and not {"books", "shades"} & set(vae)
    assert not {"bitrate_kbps", "usage"} & set(vae["figures"])
    assert np.isfinite([vae["figures"][key] for key in ("notes", "chroma", "mel")]).all()
    np.testing.assert_array_equal(pcm, heard_through(folders.vae, "vqvae_512", song))
    assert pcm.std() > 0
    convergence = metrics.spectral_convergence(audio.decode(song, RATE), audio.from_int16(pcm))
    assert vae["figures"]["sc_db"] == pytest.approx(convergence, abs=0.05)
    codes, _, rest = sounds["128"]
    assert len(rest) == 2 * codes["codes"] > 0 and codes["figures"]["usage"] > 0


def test_codecs_of_equal_names_come_from_their_own_folder(folders, song, open_studio):
    studio = open_studio(folders.tiny.codecs, [folders.root, folders.tiny.generators])
    expected = {str(folders.tiny.generators): folders.tiny.codecs, str(folders.codes): folders.codes,
               str(folders.vae): folders.vae}
    assert list(studio.folders.paths) == studio.about()["codecs"] == list(expected), "what plays is first"
    heard = {}
    for folder, codecs in [*expected.items(), *expected.items()]:
        about, sounds = compare(studio, song, weights=folder)
        assert about["weights"] == folder
        heard[folder] = sounds["512"][1]
        np.testing.assert_array_equal(heard[folder], heard_through(codecs, "vqvae_512", song))
    different = [a for a in heard.values() for b in heard.values() if (a != b).any()]
    assert len(different) == 6


def test_a_folder_of_codecs_alone_can_be_compared_but_not_played(folders, open_studio, tmp_path):
    studio = open_studio(folders.tiny.codecs, [folders.root])
    about = studio.about()
    assert (about["folders"], about["rate"]) == ([], RATE)
    assert about["codecs"] == [str(folders.codes), str(folders.vae)]
    assert f"There are no generators in {folders.vae};" in refusal(studio, weights=str(folders.vae))
    with pytest.raises(UserError, match="holds no generators to follow yet"):
        Studio(folders.vae, [folders.vae], follow=folders.vae)
    with pytest.raises(UserError, match="no generators in there .*, and no codecs"):
        Studio(folders.tiny.codecs, [tmp_path])


def test_a_folder_without_generators_does_not_replace_other_codecs(folders, open_studio):
    studio = open_studio(folders.vae, [folders.tiny.generators])
    assert list(studio.folders.playing) == [str(folders.tiny.generators)]
    assert studio.about()["codecs"] == [str(folders.tiny.generators), str(folders.vae)]
    assert studio.folders.codecs_of(str(folders.tiny.generators)) == defaults.codecs()
