"""Two folders of clearly different sounds as two labels: a tiny generator learns them, its weights
remember the vocabulary, and held-out music is likeliest with its own label."""

import dataclasses

import numpy as np
import pytest
from prepared import Told, data_folder

from vqwave import cli
from vqwave import config as configs
from vqwave.commands import generate, train, train_generator
from vqwave.config import DataConfig, TrainingConfig
from vqwave.dsp.metrics import bits
from vqwave.errors import UserError
from vqwave.io import manifest, weights
from vqwave.play import api, engine, listening
from vqwave.report import fad, report, scoring
from vqwave.report.evaluation import Evaluation, Extent, Setting
from vqwave.report.parts import generators, labels
from vqwave.report.parts.part import Gallery, Page
from vqwave.train import options, plan, training
from vqwave.train.options import RunOptions

NAME = "generator_512"
STEPS = 80


def tone(seconds, pitch, seed):
    """float32 [samples] of a tone that wavers around one pitch, in Hz."""
    random = np.random.default_rng(seed)
    t = np.arange(round(22050 * seconds)) / 22050
    return (0.4 * np.sin(2 * np.pi * pitch * (1 + 0.02 * np.sin(3 * t)) * t)
            + 0.05 * random.normal(size=t.size)).astype(np.float32)


def prepared(folder, sounds):
    """A data folder of {"label/track": sound}, as if each label were a folder of music."""
    tracks = data_folder(folder, {name.replace("/", " "): x for name, x in sounds.items()})
    source = {name.replace("/", " "): f"/music/{name}.ogg" for name in sounds}
    tracks = [dataclasses.replace(t, source=source[t.file.removesuffix(".ogg.u16")]) for t in tracks]
    manifest.write(folder, tracks)
    return tracks


def sounds(labels):
    return {f"{label}/{label}{i}": tone(6, pitch, i) for label, pitch in labels.items() for i in range(4)}


def labelled(of="folder", **more):
    model = configs.preset("tiny").generator(NAME)
    return configs.replace(model, conditions=[{"kind": "labels", "of": of, "channels": 8} | more])


SETTINGS = TrainingConfig(steps=STEPS, epochs=1, batch_size=8, input_length=32768, offsets=1,
                          learning_rate=1e-2, warmup=5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepared(folder, sounds({"low": 110, "high": 1760}))
    return folder


def run(model, data, codecs, out, say=None, steps=2, **more):
    return training.train_generator(model, data, codecs, RunOptions(out, promote=True, **more),
                                    configs.replace(SETTINGS, steps=steps),
                                    DataConfig(split=0.0, trim_silence=None), say or Told())


@pytest.fixture(scope="module")
def trained(data, tiny_weights, tmp_path_factory):
    """The folder of a generator that learnt both labels, and what its training said."""
    out, say = tmp_path_factory.mktemp("out"), Told()
    run(labelled(), data, tiny_weights.codecs, out, say, STEPS)
    levels = [configs.to_dict(one) for one in configs.preset("tiny").chain.levels[:1]]
    weights.save_chain(out, configs.replace(configs.preset("tiny").chain, levels=levels))
    return out, say


def test_the_vocabulary_stands_beside_the_weights(trained):
    out, say = trained
    assert weights.find(out, NAME).config.labels.names == ("high", "low")
    assert "labels by folder: high (4), low (4)" in say.lines
    assert "names: [high, low]" in (out / f"{NAME}.yml").read_text()


def test_music_is_likeliest_with_its_own_label(trained, data, tiny_weights):
    played = engine.load_generator(weights.find(trained[0], NAME), "onnx-float32")
    codec = engine.load_codec(weights.find(tiny_weights.codecs, "vqvae_512"), "onnx-float32")
    spans = []
    for track in manifest.read(data)[::2]:
        label = track.file.split()[0]
        coded = scoring.encode_track(tone(6, {"low": 110, "high": 1760}[label], 77), codec, None,
                                     track, 0)
        spans.append(scoring.Span(coded, 0, 250))
    none = [played.config.labels.none] * len(spans)
    right, without, wrong = (bits(scoring.score(played, spans, labels=told))
                             for told in (None, none, scoring.swap_labels(spans, played.config)))
    assert right < without < wrong
    assert without - right > 0.01 and wrong - right > 0.2


def test_the_report_says_what_labels_are_worth(trained, data, tiny_weights, tmp_path):
    (tmp_path / "split.yml").write_text("test: [low0, high0]\n")
    played = api.load(tiny_weights.codecs, trained[0], engine="onnx-float32")
    plan = Extent((Setting(512),), bits_seconds=4.0, warm_up=0.2)
    evaluated = Evaluation(played, data, tmp_path / "split.yml", plan, cache_dir=tmp_path / "cache")
    results = evaluated.run(("generators",))
    (row,) = results["generators"]
    assert row["bits"] < row["unlabelled"] < row["mislabelled"]
    for label, own in row["by_label"].items():
        assert own["tracks"] == 1 and own["bits"] < own["mislabelled"], label
    for key in ("bits", "unlabelled", "mislabelled"):
        assert row[key] == pytest.approx(np.mean([row["by_label"][x][key] for x in ("high", "low")]), rel=1e-5)
    part, page = generators.Generators(), Page("here", [])
    part.write(page, {"test": results}, evaluated)
    assert "without the label | with another |" in "\n".join(page.lines)
    worth = {one.what: one.judge(results)["measured"] for one in part.figures(played.chain)}
    assert worth["bits that the label is worth, against none, worst level"] == row["unlabelled"] - row["bits"]
    # Where there are none nothing is said of them.
    assert f"| high | 1 | {row['by_label']['high']['bits']:.2f} |" in "\n".join(page.lines)
    plain, page = {key: row[key] for key in row if "label" not in key}, Page("here", [])
    part.write(page, {"test": {"generators": [plain]}}, evaluated)
    assert "label" not in "\n".join(page.lines)


def test_each_label_is_heard_while_it_is_learnt(trained, data, tiny_weights):
    music = api.load(tiny_weights.codecs, trained[0])
    sounds = listening.hear(music, data, [], seconds=1.0)
    assert list(sounds) == ["piece", "piece_high", "piece_low"]
    own = music.generate(level=512, seconds=1.0, seed=1, chosen={"label": "low"})
    np.testing.assert_array_equal(sounds["piece_low"], own)
    assert not np.array_equal(sounds["piece_low"], sounds["piece_high"])


@pytest.fixture
def evaluated(trained, data, tiny_weights, tmp_path):
    """An evaluation of the two labels, that hears the mean spectrum of three seconds."""
    (tmp_path / "split.yml").write_text("test: [low0, high0]\nvalidation: [low1]\nfresh: [low2]\n")
    made = Evaluation(api.load(tiny_weights.codecs, trained[0]), data, tmp_path / "split.yml",
                      Extent((Setting(512),), minutes=0.15, guidance=3.0),
                      cache_dir=tmp_path / "cache")
    made.embed = lambda sound, rate: fad.patches(sound, rate).mean(1)
    return made


def written(found, evaluated, **sides):
    """The part's subsection, in lines."""
    page = Page("here", ["label_1.ogg", "label_2.ogg"])
    labels.ByLabel().write(page, {side: {"labels": one} for side, one in ({"test": found} | sides).items()},
                           evaluated)
    return page.lines


def test_a_classifier_is_asked_whether_music_does_what_its_label_says(evaluated, tmp_path):
    results = evaluated.run(("labels",))
    # The fresh tracks are of one label, which leaves nothing to tell apart.
    assert set(results) == {"labels"}
    found = results["labels"]
    assert found["labels"] == ["high", "low"] and found["piece_seconds"] == pytest.approx(9, abs=0.1)
    real = {(row["what"], row["label"]): row for row in found["real"]}
    assert {key: row["named"] for key, row in real.items() if "named" in row} == {
        (labels.HELD_OUT, "high"): 1, (labels.HELD_OUT, "low"): 1,
        # Untrained codecs make the same of all.
        (labels.DECODED, "high"): 1 - real[labels.DECODED, "low"]["named"],
        (labels.DECODED, "low"): pytest.approx(0.5, abs=0.5)}
    assert all(set(real[labels.DECODED, label]["to"]) == {"high", "low"} for label in found["labels"])
    for label, other in (("low", "high"), ("high", "low")):
        near = real[labels.TRAINING, label]["to"]
        assert near[label] < 0.1 * near[other]
    assert [(row["label"], row["guidance"], row["pieces"]) for row in found["generated"]] == [
        ("high", 1, 1), ("low", 1, 1), ("high", 3, 1), ("low", 3, 1)]
    assert all(set(row["to"]) == {"high", "low"} and 0 <= row["named_decoded"] <= 1
               for row in found["generated"])
    # Each is another piece, and all are kept.
    made = [labels.generate_pieces(evaluated, label, guidance)
            for label in ("high", "low") for guidance in (1.0, 3.0)]
    assert len({sound.tobytes() for sound in made}) == 4
    evaluated.progress = lambda *told: pytest.fail(f"{told} again")
    assert evaluated.run(()) == evaluated.run(("labels",)) == results
    gallery = Gallery(tmp_path, 22050)
    labels.ByLabel().draw(results, evaluated, gallery)
    assert [path.read_bytes()[:4] for path in gallery.written] == [b"OggS"] * 2


@pytest.mark.parametrize("obeys", [True, False])
def test_music_is_held_to_what_its_label_says(evaluated, monkeypatch, obeys):
    """Music of which it is known whether it is what was asked for, without guidance; with it, it is."""
    def pieces(_, label, guidance):
        pitch = {"low": 110, "high": 1760}[label]
        other = {"low": 1760, "high": 110}[label]
        return np.stack([tone(6, pitch if obeys or guidance > 1 else other, 20 + i) for i in range(4)])

    monkeypatch.setattr(labels, "generate_pieces", pieces)
    found = evaluated.run(("labels",))["labels"]
    assert {(row["guidance"], row["named"], row["pieces"]) for row in found["generated"]} == {
        (1, float(obeys), 4), (3, 1, 4)}
    judged = {one.what: one.judge({"labels": found})["measured"] for one in labels.ByLabel().figures(None)}
    plain, guided, share = judged.values()
    assert (plain, guided) == (100 * obeys, 100) and (share < 1) == obeys
    # As much as one training track of low, which is all there is, and as one held-out track.
    assert found["seconds"] == found["reference_seconds"] == fad.seconds_of(3)
    # Of a classifier that heard what untrained codecs leave, nothing is wanted.
    assert {"named", "named_decoded", "pieces", "to", "what", "label", "guidance"} == set(
        found["generated"][0])
    lines = written(found, evaluated)
    assert lines.count("| named by its label | high | low | mean |") == 2
    assert "| named by its label | high | low | mean |" in lines
    assert "| held-out tracks | 100% of 1 | 100% of 1 | 100% |" in lines
    assert f"| generated | {obeys:.0%} of 4 | {obeys:.0%} of 4 | {obeys:.0%} |" in lines
    assert "| generated, guidance 3 | 100% of 4 | 100% of 4 | 100% |" in lines
    assert "| music | label | to high, 6 s to 6 s | to low, 6 s to 6 s |" in lines
    assert [line.split(" | ")[:2] for line in lines if line.startswith("| training")] == [
        ["| training tracks", "high"], ["| training tracks", "low"]]
    assert "Listen: [high](here/label_1.ogg) · [low](here/label_2.ogg)" in lines
    both = written(found, evaluated, fresh=found | {"reference_seconds": 4.0})
    assert any("to low, 6 s to 6 s, test tracks | to high, 6 s to 4 s, fresh tracks" in line
               for line in both)


def test_pieces_are_decoded_one_by_one(evaluated, monkeypatch, tmp_path):
    class Quieter:
        """A codec that keeps everything, at half its loudness."""

        encode, decode = staticmethod(lambda x: x), staticmethod(lambda x: x / 2)

    monkeypatch.setattr(evaluated.music, "codec", lambda _: Quieter)
    monkeypatch.setattr(evaluated, "cache_dir", tmp_path)
    monkeypatch.setattr(evaluated, "embed", lambda sound, rate: sound[:, None])
    monkeypatch.setattr(labels, "PIECE_SECONDS", 2.0)
    track = evaluated.test[0]
    length = evaluated.cut(2 * evaluated.rate)
    made = labels.decode_pieces(evaluated, track)
    assert len(made) == track.samples // length > 1
    for i, piece in enumerate(made):
        np.testing.assert_array_equal(piece[:, 0],
                                      evaluated.samples(track, i * length, length) / 2)


def test_pieces_are_thirty_seconds_of_a_track(rng):
    patches = rng.normal(size=(45, 2))
    pieces = labels.cut_pieces(patches)
    assert [len(piece) for piece in pieces] == [fad.patch_count(30)] * 2
    np.testing.assert_array_equal(np.concatenate(pieces), patches[:38])
    assert [len(piece) for piece in labels.cut_pieces(patches[:5])] == [5]
    assert labels.cut_pieces(patches[:0]) == []


def test_a_label_with_little_music_counts_as_much_as_one_with_more(rng):
    few, many = rng.normal(-0.5, 1, (30, 3)), rng.normal(0.5, 1, (3000, 3))
    classifier = labels.teach({"few": few, "many": many})
    unsure = classifier.predict_proba(np.zeros((1, 3)))[0]
    assert abs(unsure[0] - 0.5) < 0.2
    # By all of its patches together, though some are like another's.
    assert labels.share_named(classifier, [few, many, many], "many") == pytest.approx(2 / 3)


def test_one_patch_that_is_surely_another_labels_does_not_name_a_piece(rng):
    means = {"low": -1.0, "middle": 0.0, "high": 1.0}
    for names in (("low", "high"), tuple(means)):
        classifier = labels.teach({x: rng.normal(means[x], 0.1, (200, 1)) for x in names})
        piece = np.array([[-1e5]] + [[2e5]] * 2)
        assert classifier.predict_proba(piece).min() == 0
        assert labels.share_named(classifier, [piece], "high") == 1
        assert labels.share_named(classifier, [-piece], "low") == 1


def test_of_a_chain_without_labels_nothing_is_measured_and_nothing_missed(data, tiny_weights, tmp_path,
                                                                         evaluated):
    plain = Evaluation(api.load(tiny_weights.codecs, tiny_weights.generators), data,
                       tmp_path / "split.yml", Extent((Setting(512),)), cache_dir=tmp_path / "cache")
    assert "labels" not in plain.run(())
    with pytest.raises(UserError, match="labels: the chain was trained without labels"):
        plain.run(("labels",))
    measured = {name: [] for name in report.PARTS if name != "labels"}
    assert report.is_complete(measured, plain) and not report.is_complete(measured, evaluated)
    with pytest.raises(UserError, match="held-out tracks have fewer than two of the labels by folder"):
        evaluated.for_side("fresh").run(("labels",))


def test_a_label_is_asked_for_on_the_command_line(trained, tiny_weights, tmp_path, capsys):
    def play(*more):
        code = cli.entry(generate.main, [
            "--seconds", "1", "--seed", "1", "--output", str(tmp_path / "out.wav"), "--force",
            "--vqvae-weights-dir", str(tiny_weights.codecs), "--generator-weights-dir", str(trained[0]),
            *more])
        return code, capsys.readouterr().err.splitlines()[-1]

    heard = set()
    for more in ((), ("--label", "low"), ("--label", "high"), ("--label", "low:0.7,high:0.3"),
                 ("--label", "low", "--guidance", "3")):
        assert play(*more)[0] == 0
        heard.add((tmp_path / "out.wav").read_bytes())
    assert len(heard) == 5
    for more, said in (
        (("--label", "lo"), "no label is called 'lo'; did you mean 'low'? There are high, low"),
        (("--guidance", "2"), "--guidance needs --label"),
        (("--label", "low", "--generator-weights-dir", str(tiny_weights.generators)),
         "generator_512 was trained without labels: there is none to choose"),
    ):
        code, error = play(*more)
        assert code == 2 and said in error, error
    for guidance in ("0", "100"):
        with pytest.raises(SystemExit) as refused:
            play("--label", "low", "--guidance", guidance)
        assert refused.value.code == 2
        assert f"{guidance!r} is not a number from 1 to 10" in capsys.readouterr().err
    assert api.load(tiny_weights.codecs, trained[0]).labels == ("high", "low")
    assert api.load(tiny_weights.codecs, tiny_weights.generators).labels == ()


def test_a_training_that_goes_on_keeps_its_vocabulary(data, tiny_weights, tmp_path):
    out, more = tmp_path / "out", tmp_path / "more"
    prepared(more, sounds({"low": 110, "mid": 440}))
    run(labelled(), data, tiny_weights.codecs, out)
    say = Told()
    run(labelled(), more, tiny_weights.codecs, out, say, steps=4)
    assert weights.find(out, NAME, "best").config.labels.names == ("high", "low")
    assert "labels by folder: high (0), low (4), none of these (4)" in say.lines
    with pytest.raises(UserError, match=r"holds a run of generator_512 with labels by folder "
                                        r"\(high, low\), not with no labels"):
        run(configs.preset("tiny").generator(NAME), data, tiny_weights.codecs, out)


def test_weights_without_labels_learn_them(data, tiny_weights, tmp_path):
    say, out = Told(), tmp_path / "out"
    run(labelled(), data, tiny_weights.codecs, out, say, start_from=tiny_weights.generators)
    assert any(line.startswith("begins with") and line.endswith(", and learns labels by folder (high, low)")
               for line in say.lines)
    assert weights.find(out, NAME).config.labels.names == ("high", "low")
    run(labelled(), data, tiny_weights.codecs, out, steps=4, start_from=tiny_weights.generators)
    assert weights.find(out, NAME, "best").config.labels.names == ("high", "low")


def test_training_never_begins_with_weights_of_other_labels(trained, data, tiny_weights, tmp_path):
    source, _ = trained
    say = Told()
    run(labelled(), data, tiny_weights.codecs, tmp_path / "on", say, start_from=source)
    assert any("begins with" in line for line in say.lines)
    for model, start, said in (
        (labelled(names=["low", "mid"]), source,
         r"with labels by folder \(high, low\); it cannot go on with labels by folder \(low, mid\)"),
        (configs.preset("tiny").generator(NAME), source, "it cannot go on with no labels"),
    ):
        with pytest.raises(UserError, match=said):
            run(model, data, tiny_weights.codecs, tmp_path / "other", start_from=start)


def test_labels_that_the_tracks_do_not_say_are_refused(data, tiny_weights, tmp_path):
    with pytest.raises(UserError, match="no track that trains says its genre"):
        run(labelled("genre"), data, tiny_weights.codecs, tmp_path / "out")


def test_trainers_take_the_option(data, tmp_path):
    parsed = train_generator.parser().parse_args(["--generator", "generator_128", "--data-dir", str(data),
                                                  "--preset", "tiny", "--label", "album"])
    model = options.read_settings(parsed, "generator").model
    assert model.labels.of == "album" and model.labels.names == () and model.source
    made = plan.Plan(data, tmp_path, "tiny", steps=2, label="folder")
    commands = {stage.role: made.command(stage) for stage in made.stages}
    assert "--label" not in commands["codec"]
    assert commands["generator"][commands["generator"].index("--label") + 1] == "folder"
    assert train.parser().parse_args(["--data-dir", "d", "--label", "genre"]).label == "genre"
