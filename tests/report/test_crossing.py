"""report/crossing.py and compare_codecs.py: codecs of several folders on several corpora."""

import json
import math
from types import SimpleNamespace

import librosa
import numpy as np
import pytest
from prepared import data_folder, music

from vqwave import cli, commands
from vqwave import config as configs
from vqwave.errors import UserError
from vqwave.io import audio, weights
from vqwave.nn.codec import load_codec
from vqwave.report import crossing, serving, slices


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

    rows = json.loads(main("--alone", "again=data/two", "--json")[1])
    assert [(row["corpus"], row["codecs"]) for row in rows[::4]] == [("one", "tiny"), ("two", "again")]

    code, said, _ = main()
    assert code == 0 and said == f"wrote {corpora / 'RESULTS.md'}\n"
    page = (corpora / "RESULTS.md").read_text(encoding="utf-8")
    assert page.count(f"evaluate.py: {crossing.SECTIONS['other_music'].title} -->") == 1
    assert "### one: 22,050 Hz, 1 tracks, 1 s" in page and "| 32x | again\\* |" in page
    assert "\\* Trained on some of these tracks." in page
    assert "python scripts/compare_codecs.py --codecs tiny=" in page and "--output-dir" not in page
    # Written again it replaces itself.
    main()
    assert (corpora / "RESULTS.md").read_text(encoding="utf-8").count("### one") == 1
    # Of a folder whose training is not through, what there is.
    weights.config_path(corpora / "again", "vqvae_8", "best").unlink()
    rows = json.loads(main("--json")[1])
    assert [row["level"] for row in rows if row["corpus"] == "one"] == [512, 128, 32, 8, 512, 128, 32]


def test_validation_tracks_are_measured_without_a_trace(main, corpora):
    code, said, _ = main("--side", "validation")
    assert code == 0 and "### two: 22,050 Hz, 1 tracks" in said and not (corpora / "RESULTS.md").exists()


def test_what_a_user_can_get_wrong_is_one_line(main, corpora):
    for more, why in ((("--codecs", "here"), "'here' is not a name and a path, NAME=PATH"),
                      (("--splits", str(corpora / "one.yml")), "names 1 files for 2 data folders"),
                      (("--codecs", f"no={corpora / 'none'}"), "none"),
                      (("--alone", "him=one"), "--alone: no folder of --codecs is called 'him'"),
                      (("--alone", "tiny=three"), "--alone: no folder of --data-dirs is called 'three'"),
                      (("--splits", str(corpora / "no.yml"), str(corpora / "one.yml")), "no.yml")):
        code, _, said = main(*more)
        assert code == 2 and why in said and len(said.splitlines()) == 1
    (corpora / "two.yml").write_text("excluded: [t two]\n")
    code, _, said = main()
    assert code == 2 and "holds no track out" in said and len(said.splitlines()) == 1


@pytest.fixture
def family(corpora, tiny_weights):
    """The folder of a tiny VAE of random weights, told labels, and of the same with another seed.
    """
    import keras

    from vqwave.nn.codec import VQVAE

    config = configs.replace(configs.preset("tiny").codec(512),
                             quantizer={"kind": "gaussian", "dim": 5},
                             labels={"names": ("calm", "music")})
    chain = configs.ChainConfig(sample_rate=22050, block=8192,
                                levels=[{"level": 512, "codec": "vqvae_512"}])
    for seed in (1, 2):
        (corpora / f"vae{seed}").mkdir()
        keras.utils.set_random_seed(seed)
        weights.save(corpora / f"vae{seed}", "vqvae_512", "", VQVAE(config).parts, config,
                     {"tracks": [], "step": 10 * seed})
        weights.save_chain(corpora / f"vae{seed}", chain)
    return corpora


def test_a_family_has_sounds_pictures_baselines_and_priors(family, main, tiny_weights):
    # Of two tracks, so that there is somewhere to walk to.
    (family / "one.yml").write_text("test: [t one, v one]\n")
    asked = ("--section", "family", "--codecs", f"vae={family / 'vae1'}", f"vae={family / 'vae2'}",
             f"tiny={tiny_weights.codecs}", "--data-dirs", str(family / "one"),
             "--splits", str(family / "one.yml"))
    for name, why in (("vae", "--slice-loss: no codec with codes is called 'vae'"),
                      ("tiny", "one: no test track is as long as a slice of 8 s")):
        code, _, said = main(*asked, "--slice-loss", name)
        assert code == 2 and said.endswith(f"{why}\n")
    code, said, _ = main(*asked)
    assert code == 0
    media = family / "docs" / "results" / "family"
    files = {path.name for path in media.iterdir()}
    assert files == {"one.png", "one_original.ogg", "one_vae_512.ogg",
                     "one_vae_512_waveforms.png", *(f"one_tiny_{level}.ogg" for level in (512, 128, 32, 8))}
    assert set(said.splitlines()) == {f"wrote {family / 'RESULTS.md'}",
                                      *(f"wrote {media / file}" for file in files)}
    page = (family / "RESULTS.md").read_text(encoding="utf-8")
    assert "## The family of codecs" in page and "docs/results/family/one_vae_512.ogg" in page
    vae = next(line for line in page.splitlines() if line.startswith("| 512x | vae |"))
    assert vae.count("(") >= 6 and "| 15 (10, 20) |" in vae and "| – |" in vae
    assert any(line.startswith("|  | Opus 6 | 6.00 |") for line in page.splitlines())
    # The folder that the tracks came from.
    assert page.count("vae is told what each track is: music.") == 1
    assert "| codecs | samples dBFS |" in page and "TechnoGen" not in page
    corpus = crossing.Corpus.of(family / "one", family / "one.yml")
    row = json.loads(main(*asked, "--json")[1])[-2] | {"slice_loss": 0.5, "frame_loss": 0.8}
    page = crossing.section(crossing.SECTIONS["family"], [row, row | {"codecs": "jukebox"}],
                            [corpus])
    assert "−8.3 dB at 128x" in page and "soundstream is held to" not in page
    assert "TechnoGen's own test loss" in page and "tiny 0.500 (0.800)" in page


def test_a_causal_codec_with_a_map_has_its_speed_and_its_map(corpora):
    import keras

    from vqwave.nn.codec import VQVAE

    config = configs.replace(
        configs.preset("tiny").codec(512), padding="causal", head={"kind": "waveform"},
        quantizer={"kind": "som", "num_codes": 16, "code_dim": 4})
    keras.utils.set_random_seed(1)
    weights.save(corpora, "vqvae_512", "", VQVAE(config).parts, config,
                 {"tracks": [], "step": 570}, training=configs.TrainingConfig(steps=760))
    own = crossing.Corpus.of(corpora / "one", corpora / "one.yml")
    codecs = [crossing.Named("map", weights.find(corpora, "vqvae_512"))]
    rows = crossing.measure(codecs, [own])
    assert rows[0]["block_speed"] > 0 and 1 <= rows[0]["perplexity"] <= 16
    files = crossing.draw(codecs, [own], rows, corpora / "drawn")
    assert (corpora / "drawn" / "one_map_512_map.png").stat().st_size > 2000
    page = crossing.section(crossing.SECTIONS["family"], rows, [own],
                            files=[file.name for file in files])
    assert page.count("one_map_512_map.png") == 1 and "| 570 of 760 |" in page
    assert "The codes of map lie on a map. Topographic error: in " in page
    # The guide has a row of it where there is a place for that.
    guide = corpora / "docs" / "family.md"
    guide.parent.mkdir()
    guide.write_text("before\n" + "\n".join(crossing.GUIDE) + "\nafter\n")
    written = crossing.write(crossing.SECTIONS["family"], rows, [own], corpora,
                             files=[file.name for file in files])
    assert written == [corpora / "RESULTS.md", guide]
    lines = guide.read_text().splitlines()
    assert lines[0] == "before" and lines[-1] == "after" and len(lines) == 7
    assert lines[4].startswith(f"| `map` | 512x | {rows[0]['kbps']:.2f} |")
    assert lines[4].endswith("| [22,050 Hz](results/family/one_map_512.ogg) |")


def test_what_generators_make_is_listed_with_its_bits(tmp_path, tiny_weights):
    audio.write(tmp_path / "piece.wav", music(1.0), 22050)
    weights.take_over(weights.find(tiny_weights.generators, "generator_512"), tmp_path)
    chain = weights.chain(tiny_weights.generators)
    weights.save_chain(tmp_path, chain)
    weights.note(weights.find(tmp_path, "generator_512"), validation_loss=math.log(2) * 3)
    piece = crossing.Piece.of("tiny", tmp_path / "piece.wav")
    assert piece.bits == pytest.approx(3)
    [file] = crossing.draw([], [], [], tmp_path / "heard", pieces=[piece])
    page = crossing.section(crossing.SECTIONS["family"], [], [], files=[file.name], pieces=[piece])
    assert "| tiny | generator_512 | 3.0 |" in page and f"family/{file.name}" in page
    with pytest.raises(UserError, match=r"none.wav: there is no such file"):
        crossing.Piece.of("tiny", tmp_path / "none.wav")


def test_what_a_prior_is_judged_by_tells_silence_and_the_mean_from_music():
    """A codec whose frames are the sound itself, five samples each."""
    config = SimpleNamespace(has_codes=False, level=5, frame_width=5, sample_rate=22050, name="own",
                             quantizer=SimpleNamespace(kind="gaussian"))
    own = SimpleNamespace(config=config, encode=lambda x, label=None: x.reshape(1, -1, 5),
                          decode=lambda z, label=None: z.reshape(1, -1))
    low, high = (np.sin(np.arange(44100, dtype=np.float32) * f) / 2 for f in (0.1, 1.0))
    found = crossing.judge_prior(own, [low, high], [low, high])
    assert abs(found["level_db"]) < 0.1 and found["music_db"] == pytest.approx(-9.03, abs=0.01)
    assert found["from_mean"] > 2 > found["apart"] > 0.1
    walk = np.array(found["walk"])
    assert walk[0] < 0.15 and walk[-1] > 0.85 and (np.diff(walk) > 0).all()
    same = SimpleNamespace(config=config, encode=own.encode, decode=lambda z, label=None: 0 * z.reshape(1, -1))
    told = []
    own.decode = lambda z, label=None: (told.append(label), z.reshape(1, -1))[1]
    crossing.judge_prior(own, [low, high, low], [low, high, low], ["a", "b", "a"])
    assert set(told) == {"a"}
    silent = crossing.judge_prior(same, [low], [0 * low])
    assert silent["level_db"] <= -100 and silent["apart"] == 0 and silent["walk"] is None


def test_technogens_test_loss_is_of_whole_slices(tmp_path, tiny_weights):
    """The same by its formula, from the codec's own parts."""
    sound = music(20.0, 3)
    data_folder(tmp_path / "one", {"t": sound, "a": music(1.0, 1)})
    (tmp_path / "one.yml").write_text("test: [t]\n")
    corpus = crossing.Corpus.of(tmp_path / "one", tmp_path / "one.yml")
    found = weights.find(tiny_weights.codecs, "vqvae_32")
    codec, size = load_codec(found), 176384
    losses, by_frame = [], []
    for start in (0, size):
        x = audio.from_u16(audio.read_window(corpus.tracks[0].path(corpus.data_dir), start, size))[None]
        latents = np.array(codec.encoder(codec.front_end(x)))
        chosen = np.array(codec.quantizer.lookup(codec.quantizer.encode(latents)))
        y = np.array(codec(x))
        rest = ((x - y) ** 2).mean() + 0.8 * ((latents - chosen) ** 2).mean()
        a, b = (np.linalg.norm(librosa.stft(one[0], n_fft=1024, hop_length=256, window="boxcar",
                                            pad_mode="reflect"), axis=-1) for one in (x, y))
        losses.append(rest + np.linalg.norm(a - b) / np.linalg.norm(a))
        a, b = (abs(librosa.stft(one[0], n_fft=1024, hop_length=256, pad_mode="constant"))
                for one in (x, y))
        by_frame.append(rest + np.linalg.norm(a - b) / np.linalg.norm(a))
    assert slices.test_losses(found, corpus) == pytest.approx(
        {"slice_loss": np.mean(losses), "frame_loss": np.mean(by_frame)}, rel=1e-4)
