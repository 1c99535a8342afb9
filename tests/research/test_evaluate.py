import dataclasses
import json
import shutil

import imported
import numpy as np
import pytest
from prepared import data_folder, music
from research import results
from research.corpus import Corpus, Plan, cached
from research.evaluators import codecs, copying, generators, health, variations

from vqwave import cli
from vqwave.data import codes
from vqwave.data.windows import Window
from vqwave.io import weights
from vqwave.play import api
from vqwave.presets import load_preset

CHAIN = load_preset("tiny").chain
RATE = CHAIN.sample_rate


@pytest.mark.parametrize("encoder", ["libopus", "libmp3lame"])
def test_an_encoder_returns_the_music_in_place_at_its_bit_rate(encoder):
    x = music(4.0)
    copy, size = codecs.recode(x, RATE, encoder, 32000)
    assert copy.shape == x.shape
    assert size * 8 / 4.0 == pytest.approx(32000, rel=0.1)
    lag = np.argmax([np.dot(x[8:-8], copy[i : len(copy) - 16 + i]) for i in range(16)])
    assert lag == 8 and np.corrcoef(x, copy)[0, 1] > 0.95


def test_a_piece_that_repeats_itself_for_long_is_faulty(rng):
    sound = (0.1 * rng.normal(size=10 * RATE)).astype(np.float32)
    loop = np.tile(rng.permutation(1024)[:430], 6)  # ten seconds, six times
    long, none = (health.find_repeats({512: codes}, RATE) for codes in (loop, np.arange(50)))
    assert long == {"512": pytest.approx(50, abs=0.5)} and none == {"512": 0}
    figures = health.measure(sound, RATE)
    assert health.is_faulty(figures | {"repeats": long})
    assert not health.is_faulty(figures | {"repeats": none})
    assert health.is_faulty(health.measure(np.sign(sound), RATE) | {"repeats": none})


@pytest.fixture(scope="module")
def musicnn(tmp_path_factory):
    """A checkpoint of the embedding network with random weights and few channels."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("musicnn")
    rng = np.random.default_rng(0)
    values, channels = {}, 1
    for i in range(6):
        if i:
            values |= {f"{i}CNN/kernel": 0.2 * rng.normal(size=(3, 3, channels, 8)),
                       f"{i}CNN/bias": np.zeros(8)}
            channels = 8
        name = "model/batch_normalization" + f"_{i}" * (i > 0)
        for key in ("gamma", "beta", "moving_mean", "moving_variance"):
            values[f"{name}/{key}"] = np.abs(1 + 0.1 * rng.normal(size=channels))
    network = folder / "musicnn" / "MSD_vgg"
    network.mkdir(parents=True)
    names = list(values)
    tf.raw_ops.SaveV2(prefix=str(folder / "m"), tensor_names=names,
                      shape_and_slices=[""] * len(names),
                      tensors=[tf.constant(values[n], tf.float32) for n in names])
    for end in (".index", ".data-00000-of-00001"):
        shutil.move(folder / f"m{end}", network / end)
    return folder


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus")
    data_folder(root / "songs", {name: music(seconds, i) for i, (name, seconds) in enumerate(
        {"a": 12.0, "b": 9.0, "c": 9.0, "heard": 8.0, "one": 9.0, "two": 10.0}.items())})
    (root / "split.yml").write_text("test: [two, one]\nvalidation: [heard]\nfresh: [b]\n")
    return root


PLAN = Plan(8, seeds=(1,), minutes=0.15, bits_seconds=2.0, warm_up=0.5, offsets=2)


@pytest.fixture
def corpus(songs, musicnn, tiny_weights, tmp_path):
    music = api.load(tiny_weights.codecs, tiny_weights.generators)
    return Corpus(music, songs / "songs", songs / "split.yml", PLAN, cache_dir=tmp_path / "cache",
                  musicnn=musicnn)


def test_a_chain_whose_lower_generators_have_no_weights_is_measured(corpus, tiny_weights, tmp_path):
    """As a chain that ships without the generators of 32x and 8x."""
    shutil.copytree(tiny_weights.generators, tmp_path / "some")
    weights.save_chain(tmp_path / "some", CHAIN)
    for file in (tmp_path / "some").glob("generator_8*"):
        file.unlink()
    without_lowest = Corpus(api.load(tiny_weights.codecs, tmp_path / "some"), corpus.data_dir, corpus.data_dir.parent / "split.yml",
                  dataclasses.replace(PLAN, depth=32), cache_dir=tmp_path / "cache", musicnn=corpus.musicnn)
    assert {*without_lowest.models} == {*without_lowest.leaked()} == {*corpus.models} - {"generator_8"} and (
        without_lowest.identity["music"] != corpus.identity["music"])
    measured = dict(variations.run(without_lowest))
    assert "notes kept of variations, 128x kept" in measured and "notes kept of variations, 32x kept" not in measured


def test_bits_are_those_of_the_teacher_forced_model(corpus, tiny_weights):
    import keras

    from vqwave.generators.generator_layer import load_generator

    corpus.music = api.load(tiny_weights.codecs, tiny_weights.generators, engine="onnx-float32")
    for level in (512, 128):
        weight_set = corpus.music.weight_set(CHAIN.generators[level])
        config = weight_set.config
        spans, warm = generators.cut_middles(corpus, config)
        windows = [Window(config, [span]) for span in spans]
        codes = np.concatenate([window.frames(0, spans[0].frames, 0) for window in windows])
        assert codes.shape == (2, (round(2.5 * RATE) // 512 * 512) // level, 1)
        start = np.full((2, 1, 1), config.start_token)
        inputs = {"previous": np.concatenate([start, codes[:, :-1]], 1)}
        if config.source:
            inputs["source"] = np.concatenate([config.source.rows(window, 0, window.spans[0].frames)
                                               for window in windows])
        logits = load_generator(weight_set)(inputs)
        losses = keras.ops.sparse_categorical_crossentropy(codes, logits, from_logits=True)
        expected = float(np.mean(np.asarray(losses)[:, warm:, 0]) / np.log(2))
        generator = corpus.music.generator(level)
        nats = generators.score(generator, spans)
        assert nats.shape == codes.shape[:2]
        assert -nats[:, warm:].mean() / np.log(2) == pytest.approx(expected, abs=1e-4)
        # The codes and their sources are those of the whole track, in line.
        track = corpus.tracks[1]
        whole = corpus.music.encode(corpus.samples(track), level)
        first = (track.samples - codes.shape[1] * level) // 2 // 512 * 512 // level
        np.testing.assert_array_equal(codes[1, :, 0], whole[first : first + codes.shape[1]])


def test_a_figure_is_measured_once_for_the_same_key(corpus):
    calls = []

    @cached("music", "tracks")
    def measure(corpus, seed, track):
        calls.append(seed)
        return {"count": len(calls)} if seed else {"array": np.arange(len(calls))}

    first, second = corpus.tracks
    calls_in_order = [(1, first), (1, first), (2, first), (1, second)]
    assert [measure(corpus, *arguments)["count"] for arguments in calls_in_order] == [1, 1, 2, 3]
    assert measure(corpus.for_side("fresh"), 1, first) == {"count": 4}
    assert len(measure(corpus, 0, first)["array"]) == len(measure(corpus, 0, first)["array"]) == 5
    corpus.plan = dataclasses.replace(corpus.plan, sampling={"top_p": 0.5})
    assert measure(corpus, 1, first) == {"count": 6}


def test_a_passage_that_any_piece_copies_is_found_in_the_keys_of_the_training(corpus, monkeypatch):
    training = next(t for t in corpus.train if t.file.startswith("a."))
    frames = corpus.codes(512, [training])[0][1]
    corpus.plan = dataclasses.replace(corpus.plan, seeds=(1, 2))
    monkeypatch.setattr(corpus, "piece", lambda seed, minutes: {
        "codes_512": frames[40:300] if seed == 2 else frames[:0]})
    find_copies = copying.find_copies.__wrapped__
    row = find_copies(corpus, 512, moving=False)
    assert row["generated"] == pytest.approx(260 * 512 / RATE)
    assert row["held_out"] < row["generated"]
    higher = next(variant for variant in codes.variants(1, 1) if variant.shift == 1)
    frames = corpus.codes(512, [training], [higher])[0][1]
    assert find_copies(corpus, 512, moving=False)["generated"] < 260 * 512 / RATE
    monkeypatch.setattr(copying, "augmentation", lambda _: {"transpose": 1, "gain": 0.0})
    row = find_copies(corpus, 512, moving=False)
    assert row["generated"] == pytest.approx(260 * 512 / RATE), "training heard it in this key"


@pytest.mark.large
def test_the_whole_evaluation_measures_every_bound(songs, musicnn, tiny_weights, tmp_path, capsys,
                                                   monkeypatch):
    """The wesnoth recipe's bounds, except the ones that need longer music or other models."""
    targets = results.read_targets(imported.ROOT / "recipes/wesnoth/targets.yml")
    arguments = ["--data-dir", str(songs / "songs"), "--split", str(songs / "split.yml"),
                 "--targets", str(imported.ROOT / "recipes/wesnoth/targets.yml"),
                 "--vqvae-weights-dir", str(tiny_weights.codecs), "--generator-weights-dir",
                 str(tiny_weights.generators), "--musicnn", str(musicnn), "--depth", "32",
                 "--cache-dir", str(tmp_path / "cache"), "--output-dir", str(tmp_path)]
    evaluate = imported.script("research.evaluate")
    monkeypatch.setattr(evaluate, "replace", lambda plan, **quick: dataclasses.replace(
        plan, **quick | {"minutes": 0.15}))
    assert cli.entry(evaluate.main, [*arguments, "--quick", "--json"]) == 0, capsys.readouterr().err
    sides = json.loads(capsys.readouterr().out)
    assert set(sides) == {"test", "fresh"}
    names = {name for values in sides["test"].values() for name in values}
    # The tiny chain has no score, and the songs are too short for some figures.
    assert set(targets) - names <= {
        "contour, 512x", "attacks, 512x", "note events, 512x", "windows with a beat, generated", "return rate, generated",
        "recurring 3-grams over chance, generated", "pitch-class entropy, generated",
        "pitch-class entropy in 10 s, generated", "pieces with 2 to 8 notes a second throughout, score model",
        "longest loop, notes, beyond real music's", "longest run copied, notes, score model",
        "bits a step with 30 s of past against 2 s", "score obeyed",
        "continuations nearer to their own track than to another, share of pairs"}
    assert not any(tmp_path.glob("research/results/*"))
    assert cli.entry(evaluate.main, [*arguments, "--quick", "--only", "health,nothing"]) == 2
    assert "'nothing'" in capsys.readouterr().err
