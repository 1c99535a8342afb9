"""A VAE with labels: folders are genres, the vocabulary lies beside the weights, and the prior is
sampled for a genre.
"""

from dataclasses import replace

import imported
import numpy as np
import pytest
import soundfile
from prepared import RecordingReporter, data_folder, music

from vqwave import cli
from vqwave import config as configs
from vqwave.config import ChainConfig, ChainLevel, DataConfig, TrainingConfig
from vqwave.data import windows
from vqwave.errors import UserError
from vqwave.io import manifest, weights
from vqwave.play import engine
from vqwave.report import fad, judge
from vqwave.train import plan, training
from vqwave.train.options import RunOptions, training_flags

GENRES = ("blues", "jazz", "metal")
CHAIN = ChainConfig(sample_rate=22050, block=8192,
                    levels=[ChainLevel(level=512, codec="vqvae_512")])
SETTINGS = TrainingConfig(steps=2, epochs=1, batch_size=2, input_length=4096)


def vae(**more):
    """The tiny codec of 512x, whose head must know its position, as a VAE."""
    return configs.replace(configs.preset("tiny").codec(512), **{
        "quantizer": {"kind": "gaussian", "dim": 6, "warmup_steps": 2}} | more)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder of two tracks of each genre, in a folder for each genre, as in GTZAN."""
    data = tmp_path_factory.mktemp("data")
    tracks = data_folder(data, {f"{name}.{i}": music(0.6, i) for i in range(2) for name in GENRES})
    manifest.write(data, [replace(t, source=f"/music/{t.file.split('.')[0]}/{t.file}")
                          for t in tracks])
    return data


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    """(the folder of a VAE that was trained with labels, the lines of its training)."""
    out, told = tmp_path_factory.mktemp("out"), RecordingReporter()
    record = training.train_codec(vae().with_labels(configs.Labels(of="folder")), data, RunOptions(out), SETTINGS,
                                  DataConfig(), told)
    assert record.finished
    weights.save_chain(out, CHAIN)
    # Two steps change the embeddings too little to be heard.
    found = weights.find(out, "vqvae_512")
    parts = {part: found.load(part) for part in found.files}
    parts["encoder"]["labels/embeddings"] *= 20
    weights.save(out, "vqvae_512", "", parts, found.config)
    return out, told.lines


def test_folders_are_its_vocabulary(trained):
    out, said = trained
    assert any(line.startswith("labels by folder: blues (") for line in said)
    labels = weights.find(out, "vqvae_512").config.labels
    assert (labels.of, labels.names) == ("folder", GENRES)


def test_decoder_only_keeps_encoder_and_labels(trained, data, tmp_path):
    out, _ = trained
    before = weights.find(out, "vqvae_512")
    record = training.train_codec(before.config, data,
                                  RunOptions(tmp_path, start_from=out, decoder_only=True), SETTINGS,
                                  DataConfig(), RecordingReporter())
    assert record.finished
    after = weights.find(tmp_path, "vqvae_512", "best").load("encoder")
    for path, array in before.load("encoder").items():
        np.testing.assert_array_equal(after[path], array)


def test_mixed_windows_have_no_label(data, tmp_path):
    with pytest.raises(UserError, match="training.mix is 0.5, but a mixture"):
        training.train_codec(vae().with_labels(configs.Labels(of="folder")), data, RunOptions(tmp_path),
                             configs.replace(SETTINGS, mix=0.5), DataConfig(), RecordingReporter())


def test_a_window_has_the_label_of_its_track(data):
    tracks = manifest.read(data)
    told = configs.Labels(names=GENRES)
    served = windows.AudioWindows(data, tracks, 4096, 4, 7, label_config=told)
    plain = windows.AudioWindows(data, tracks, 4096, 4, 7)
    for batch in range(4):
        x, y = served[batch]
        np.testing.assert_array_equal(x["samples"], y)
        np.testing.assert_array_equal(y, plain[batch][0])
        assert x["label"].shape == (4, 1, 1, 2) and x["label"].dtype == np.int32
        for row, number in zip(x["label"][:, 0, 0], served.numbers(batch), strict=True):
            name = tracks[served.position(number)[0]].file.split(".")[0]
            assert (GENRES[row[0]], row[1]) == (name, configs.SHARES)


def test_every_engine_encodes_and_decodes_alike_as_any_of_its_labels(trained):
    found, sound = weights.find(trained[0], "vqvae_512"), music(1.0)[None]
    onnx, reference = (engine.load_codec(found, name) for name in ("onnx", "keras"))
    heard = {}
    for label in (None, "blues", "jazz", {"blues": 1, "metal": 3}):
        vectors = onnx.encode(sound, label)
        np.testing.assert_allclose(vectors, reference.encode(sound, label), atol=1e-4)
        heard[str(label)] = onnx.decode(vectors, label)
        np.testing.assert_allclose(heard[str(label)], reference.decode(vectors, label), atol=1e-4)
    made = list(heard.values())
    for i, one in enumerate(made):
        for other in made[:i]:
            assert np.abs(one - other).max() > 1e-4
    # A batch may be of several labels, and blocks of a piece are that piece.
    both = np.repeat(onnx.encode(sound, "blues"), 2, axis=0)
    apart = onnx.decode(both, ["blues", "jazz"])
    np.testing.assert_allclose(apart[:1], onnx.decode(both[:1], "blues"), atol=1e-5)
    np.testing.assert_allclose(apart[1:], onnx.decode(both[:1], "jazz"), atol=1e-5)


def run(capsys, script, *arguments):
    code = cli.entry(imported.script(script).main, list(map(str, arguments)))
    return code, capsys.readouterr().err


def test_the_commands_play_a_genre_or_list_the_genres(trained, tmp_path, capsys,
                                                             monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "abcd":
        soundfile.write(f"{name}.wav", music(0.5, ord(name)), 22050)
    folder = ["--vqvae-weights-dir", trained[0]]
    sample = ["generate_audio", *folder, "--seconds", 0.5, "--seed", 1, "--output"]
    for name, label in (("any.wav", []), ("jazz.wav", ["--label", "jazz"])):
        assert run(capsys, *sample, name, *label)[0] == 0
    sounds = [soundfile.read(name)[0] for name in ("any.wav", "jazz.wav")]
    assert np.abs(sounds[0] - sounds[1]).max() > 1e-4
    files = ["a.wav", "b.wav", "c.wav", "d.wav"]
    assert run(capsys, "latents", "reconstruct", *files, *folder, "--label", "blues:0.5,metal:0.5",
               "--picture", "four.png")[0] == 0
    assert (tmp_path / "four.png").stat().st_size > 5000
    assert run(capsys, "latents", "walk", *files[:2], *folder, "--label", "metal", "--output",
               "w.wav")[0] == 0
    code, errors = run(capsys, *sample, "x.wav", "--label", "jas")
    assert code == 2
    assert "no label is called 'jas'; did you mean 'jazz'?" in errors


def test_a_codec_is_heard_with_a_label_and_judged_with_each_tracks_own(trained, data, tmp_path,
                                                                       monkeypatch):
    monkeypatch.chdir(tmp_path)
    soundfile.write("a.wav", music(0.5, 1), 22050)
    test_vqvae = imported.script("test_vqvae").main
    given = ["--model", "all", "--vqvae-weights-dir", str(trained[0])]
    sounds = []
    for label in ("jazz", "metal"):
        assert cli.entry(test_vqvae, [*given, "--input", "a.wav", "--label", label]) == 0
        sounds.append(soundfile.read("a_vqvae_512.wav")[0])
    assert np.abs(sounds[0] - sounds[1]).max() > 1e-4
    told = []
    monkeypatch.setattr(fad, "load_if_available", lambda path, say: None)
    measure = judge.judge
    monkeypatch.setattr(judge, "judge", lambda *codec_and_sounds, track_labels, **options: (
        told.extend(track_labels), measure(*codec_and_sounds, track_labels=track_labels, **options))[1])
    assert cli.entry(test_vqvae, [*given, "--data-dir", str(data)]) == 0
    assert told and set(told) <= set(GENRES)


def test_a_vae_without_labels_refuses_a_label(tmp_path, capsys):
    config = vae()
    from vqwave.nn.codec import Codec

    weights.save(tmp_path, config.name, "", Codec(config).parts, config)
    weights.save_chain(tmp_path, CHAIN)
    code, errors = run(capsys, "generate_audio", "--vqvae-weights-dir", tmp_path, "--seconds", 0.1,
                       "--output", tmp_path / "x.wav", "--label", "jazz")
    assert code == 2 and "vqvae_512 was trained without labels: there is none to choose" in errors


def test_a_folder_of_one_genre_is_refused(data, tmp_path):
    alone = [t for t in manifest.read(data) if t.file.startswith("jazz")]
    for track in alone:
        (tmp_path / track.file).write_bytes(track.path(data).read_bytes())
    manifest.write(tmp_path, alone)
    with pytest.raises(UserError, match="every training track has the folder 'jazz': labels must tell"):
        training.train_codec(vae().with_labels(configs.Labels(of="folder")), tmp_path, RunOptions(tmp_path / "out"),
                             SETTINGS, DataConfig(), RecordingReporter())


@pytest.mark.parametrize(("change", "said"), [
    ({"quantizer": {"kind": "ema"}}, "labels need a quantizer of gaussian"),
    ({"padding": "causal", "head": {"kind": "waveform"}},
     "labels need .* padding: same"),
])
def test_labels_need_a_gaussian_codec_of_whole_pieces(change, said):
    with pytest.raises(configs.ConfigError, match=said):
        vae(**{"labels": {"names": GENRES}} | change)
    with pytest.raises(configs.ConfigError, match="labels need .* an encoder of mirror"):
        configs.replace(configs.preset("spectrogram_vae").codec(2048), labels={"names": GENRES})


def test_a_plan_trains_vaes_and_generators_with_labels(data, tmp_path):
    def labelled(preset):
        flags = training_flags(steps=1, label="folder")
        made = plan.Plan(data, tmp_path, preset, flags=flags)
        return {stage.name for stage in made.stages if made.settings(stage).model.labels}

    assert "vqvae_500" in labelled("cvae")
    assert labelled("tiny") == set(configs.preset("tiny").chain.generators.values())
