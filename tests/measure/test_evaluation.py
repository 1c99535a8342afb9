"""evaluation.py, results.py and scripts/evaluate.py: single figures by hand, and the whole on tiny random weights."""

import json
import re
import shutil

import imported
import numpy as np
import pytest
from prepared import data_folder, music

from vqwave import cli, weights
from vqwave.config import LEVELS, SAMPLE_RATE, codec_name, generator_name
from vqwave.data import audio
from vqwave.errors import UserError
from vqwave.measure import evaluation, report
from vqwave.measure.evaluation import Evaluation, Plan, Setting
from vqwave.play import api

# ------------------------------------------------------------------------------------------------------ single figures


def test_a_hum_at_the_codes_rate_is_told_from_louder_or_duller_music(rng):
    x = (0.1 * rng.normal(size=4 * SAMPLE_RATE)).astype(np.float32)
    t = np.arange(x.size) / SAMPLE_RATE
    for level in LEVELS:
        hum = (0.05 * np.sin(2 * np.pi * 2 * SAMPLE_RATE / level * t)).astype(np.float32) if level > 8 else (
            0.05 * np.sin(2 * np.pi * SAMPLE_RATE / level * t)).astype(np.float32)
        same, quieter, humming = (evaluation.buzz([(x, y)], level) for y in (x, x / 2, x + hum))
        assert same["buzz_db"] == pytest.approx(0, abs=1e-9) and same["line_db"] == pytest.approx(0, abs=1e-9)
        assert quieter["line_db"] == pytest.approx(-6.02, abs=0.01) and quieter["buzz_db"] < 0.01
        assert humming["buzz_db"] > 10 and humming["line_db"] > 10 and humming["notch_db"] == pytest.approx(0, abs=0.5)
        missed = evaluation.buzz([(x + hum, x)], level)
        assert missed["notch_db"] < -10 and missed["buzz_db"] == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("level", [512, 128])
def test_notes_that_come_back_out_of_tune_are_no_hum(rng, level):
    t = np.arange(8 * SAMPLE_RATE) / SAMPLE_RATE
    notes = rng.uniform(100, 10000, 300)
    x, y = (sum(np.sin(2 * np.pi * f * t) for f in notes * off).astype(np.float32) for off in (1, 1.003))
    figures = evaluation.buzz([(x, y)], level)
    assert figures["line_db"] > 10 and figures["buzz_db"] < 3


@pytest.mark.parametrize(("encoder", "rate"), [("libopus", 32000), ("libmp3lame", 32000)])
def test_an_encoder_gives_back_the_music_in_place_at_the_rate_named(encoder, rate):
    x = music(4.0)
    made, size = evaluation.recoded(x, encoder, rate)
    assert made.shape == x.shape
    assert size * 8 / 4.0 == pytest.approx(rate, rel=0.1)
    lag = np.argmax([np.dot(x[8:-8], made[i : len(made) - 16 + i]) for i in range(16)])
    assert lag == 8 and np.corrcoef(x, made)[0, 1] > 0.95


def vitals(sound, codes=None):
    return evaluation.vitals(np.asarray(sound, np.float32), {512: np.arange(50)} if codes is None else codes)


def test_what_ails_a_piece_is_said(rng):
    minute = 60 * SAMPLE_RATE
    alive = 0.1 * rng.normal(size=minute)
    assert evaluation.ailments(vitals(alive)) == []
    dead = alive.copy()
    dead[minute // 2 :] = 0
    assert evaluation.ailments(vitals(dead)) == ["silent for 30 s", "ends in silence"]
    paused = alive.copy()
    paused[minute // 2 : minute // 2 + 10 * SAMPLE_RATE] = 0
    assert evaluation.ailments(vitals(paused)) == []
    assert any("dBFS over ten seconds" in a for a in evaluation.ailments(vitals(np.sign(alive))))
    assert any("at full scale" in a for a in evaluation.ailments(vitals(np.clip(4 * alive, -1, 1))))
    loop = np.tile(rng.permutation(1024)[:430], 6)  # ten seconds, over and over
    assert evaluation.ailments(vitals(alive, {512: loop})) == ["50 s repeated exactly at 512x"]


def test_settings_are_read_and_refused():
    made = report.parse_settings([8, 128], ["default", "0.9", "1,0.9,0.8,0.7"])
    assert [s.depth for s in made] == [8] * 3 + [128] * 3
    assert made[0].options() == {"level": 8, "temperature": None, "top_p": None}
    assert made[1].options()["temperature"] == 0.9
    # A chain that ends sooner has the first ones; a variation, whose first generators rest, the last of those.
    assert made[5].options()["temperature"] == [1, 0.9]
    assert made[2].options([128, 32, 8])["temperature"] == [0.9, 0.8, 0.7]
    with pytest.raises(UserError, match="'warm'"):
        report.parse_settings([8], ["warm"])
    with pytest.raises(UserError, match="4 levels; 2 temperatures"):
        report.parse_settings([8], ["1,1"])


def judged(targets, what, **figures):
    (target,) = [t for t in targets if t.what == what]
    return target.judge({"codecs": [{"level": 32, **figures}]})["verdict"]


def test_targets_are_read_and_only_a_bound_that_is_there_is_met(tmp_path):
    path = tmp_path / "targets.yml"
    path.write_text("SC, 32x: {must: -14.5, aim: -16}\nSI-SDR, 32x: {aim: 13}\nmel, 32x: {must: 0.5}\n")
    targets = report.read_targets(path)
    for value, verdict in ((-16, "aim met"), (-15, "must met"), (-14, "missed"), (float("nan"), "missed")):
        assert judged(targets, "SC, 32x", sc_db=value) == verdict
    for value, verdict in ((13, "aim met"), (12, "aim missed")):
        assert judged(targets, "SI-SDR, 32x", si_sdr_db=value) == verdict
    assert [judged(targets, "mel, 32x", mel=x) for x in (0.4, 0.6)] == ["must met", "missed"]
    assert judged(targets, "Fréchet distance, 32x", fad=1.0) == ""
    assert judged(targets, "Fréchet distance, 32x") == "not measured"
    assert judged(report.FIGURES, "SC, 32x", sc_db=-30) == ""


@pytest.mark.parametrize("text, why", [
    ("SC, 31x: {aim: 1}", "did you mean 'SC, 32x'?"), ("SC, 8x: 3", "'SC, 8x' must have a number"),
    ("SC, 8x: {}", "'SC, 8x' must have a number"), ("SC, 8x: {least: 1}", "'SC, 8x' must have a number"),
    ("SC, 8x: {aim: .inf}", "'SC, 8x' must have a number"), ("SC, 8x: {aim: yes}", "'SC, 8x' must have a number"),
    ("[1]", "targets.yml"),
])
def test_targets_that_are_none_are_refused_in_one_line(tmp_path, text, why):
    (tmp_path / "targets.yml").write_text(text)
    with pytest.raises(UserError) as caught:
        report.read_targets(tmp_path / "targets.yml")
    assert why in str(caught.value) and "targets.yml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_section_of_the_results_is_replaced_and_the_rest_is_kept():
    one = report.merged("# Results\n\nBy hand.\n", "a", "first \\1")
    both = report.merged(one, "b", "other")
    again = report.merged(both, "a", "second")
    assert "By hand." in again and "other" in again and "second" in again and "first" not in again
    assert report.merged(again, "a", "second") == again


# ----------------------------------------------------------------------------------------------------------- the whole


@pytest.fixture(scope="module")
def musicnn(tmp_path_factory):
    """A checkpoint of the right names with random numbers, narrower than the real one: what fad.py reads."""
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("musicnn")
    rng = np.random.default_rng(0)
    values, channels = {}, 1
    for i in range(6):
        if i:
            values |= {f"{i}CNN/kernel": 0.2 * rng.normal(size=(3, 3, channels, 8)), f"{i}CNN/bias": np.zeros(8)}
            channels = 8
        for key in ("gamma", "beta", "moving_mean", "moving_variance"):
            values[f"model/batch_normalization{f'_{i}' * (i > 0)}/{key}"] = np.abs(1 + 0.1 * rng.normal(size=channels))
    made = folder / "musicnn" / "MSD_vgg"
    made.mkdir(parents=True)
    names = list(values)
    tf.raw_ops.SaveV2(prefix=str(folder / "m"), tensor_names=names, shape_and_slices=[""] * len(names),
                      tensors=[tf.constant(values[n], tf.float32) for n in names])
    for end in (".index", ".data-00000-of-00001"):
        shutil.move(folder / f"m{end}", made / end)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A prepared folder `songs` and its split.yml, with codecs at their real rate."""
    root = tmp_path_factory.mktemp("corpus")
    data_folder(root / "songs", {name: music(seconds, i) for i, (name, seconds) in enumerate(
        {"a": 12.0, "b": 9.0, "heard": 8.0, "one": 9.0, "two": 10.0}.items())})
    (root / "split.yml").write_text("test: [two, one]\nvalidation: [heard]\n")
    return root


PLAN = Plan(minutes=0.15, bits_seconds=2.0, warm_up=0.5, offsets=2)


@pytest.fixture
def evaluated(corpus, musicnn, tiny_weights, tmp_path):
    music = api.load(tiny_weights.codecs, tiny_weights.generators)
    return Evaluation(music, corpus / "songs", corpus / "split.yml", PLAN, cache_dir=tmp_path / "cache",
                      musicnn=musicnn)


def test_bits_are_those_of_the_teacher_forced_model(evaluated):
    """The figure for real codes, against one call of the Keras model on the same ones."""
    import keras

    evaluated.music = api.load(*evaluated.music._folders.values(), engine="onnx-float32")
    for level in (512, 128):
        found = evaluated.music.found(generator_name(level))
        codes, source, warm = evaluated._asked(found.config)
        assert codes.shape == (2, (round(2.5 * SAMPLE_RATE) // 512 * 512) // level)
        start = np.full((2, 1), found.config.start_token)
        inputs = {"previous": np.concatenate([start, codes[:, :-1]], 1)}
        if source is not None:
            inputs["source"] = source
        logits = weights.load_generator(found)(inputs)
        losses = keras.ops.sparse_categorical_crossentropy(codes, logits, from_logits=True)
        expected = float(np.mean(np.asarray(losses)[:, warm:]) / np.log(2))
        generator = evaluated.music.generator(level)
        assert evaluated._scored(generator, codes, source, warm, "", 0) == pytest.approx(expected, abs=1e-4)
        # The codes and their sources are those of the whole track, in line.
        track = evaluated.test[1]
        whole = evaluated.music.encode(evaluated.samples(track), level)
        first = (track.samples - codes.shape[1] * level) // 2 // 512 * 512 // level
        np.testing.assert_array_equal(codes[1], whole[first : first + codes.shape[1]])


def test_everything_is_measured_once_and_kept(evaluated, tmp_path):
    parts = ("controls", "codecs", "chain", "health")
    found = evaluated.run(parts)
    assert set(found) == set(parts)
    controls = {row["what"]: row["fad"] for row in found["controls"]}
    assert {"white noise", "silence", "validation tracks, all", "training tracks, all"} < set(controls)
    rows = {row["codec"]: row for row in found["codecs"]}
    assert list(rows) == [*map(codec_name, LEVELS), "Opus 32", "Opus 6", "MP3 32", "MP3 8"]
    assert rows["MP3 32"]["sc_db"] < rows["MP3 8"]["sc_db"]
    for level in LEVELS:
        assert 0 < rows[codec_name(level)]["usage"] <= 1 and -120 <= rows[codec_name(level)]["silence_db"] <= 0
    assert found["chain"][0]["fad"] > 0 and found["health"][0]["seconds"] == pytest.approx(9.0)

    # Nothing is measured again, and what is not cached is not measured unless asked for.
    told = []
    evaluated.progress = lambda part, what, share: told.append((part, what))
    assert evaluated.run(parts) == found
    assert evaluated.run(()) == found
    assert not told
    # Other weights, other figures: a folder with one set changed finds the rest.
    other = tmp_path / "other"
    shutil.copytree(evaluated.music._folders["vqvae"], other)
    there = weights.find(other, "vqvae_32")
    weights.save(other, "vqvae_32", "", {p: {k: 0.9 * v for k, v in there.load(p).items()} for p in there.files},
                 there.config)
    evaluated.music = api.load(other, evaluated.music._folders["generator"])
    again = evaluated.run(("codecs",))["codecs"]
    assert {what.split(" ")[0] for _, what in told} == {"vqvae_32"}
    changed = [a["codec"] for a, b in zip(again, found["codecs"], strict=True) if a != b]
    assert changed == ["vqvae_32"]


def test_variations_copies_and_bits(evaluated):
    evaluated.plan = Plan((Setting(32, (0.9,)),), minutes=0.1, bits_seconds=1.0, warm_up=0.5, offsets=2)
    found = evaluated.run(("generators", "variations", "copying"))
    assert [(r["depth"], r["keep"]) for r in found["variations"]] == [(32, 512), (32, 128), (32, 32)]
    assert [r["generator"] for r in found["generators"]] == [generator_name(x) for x in LEVELS]
    for row in found["generators"]:
        assert 0 < row["unigram"] < 10 and 5 < row["bits"] < 7  # random weights: about six bits of 64 codes
        assert ("padded" in row) == ("foreign" in row) == (row["level"] < 512)
    copied = found["copying"]["codes"]
    assert [r["level"] for r in copied] == [512, 128, 32]
    assert all(r["track"] in ("a", "b") and r["seconds"] == r["codes"] * r["level"] / SAMPLE_RATE for r in copied)


def test_a_copy_is_found_where_it_was_taken(evaluated, monkeypatch):
    """A "generated" piece that is a training track, three seconds in: its codes, and its embeddings, are all there."""
    track = next(t for t in evaluated.train if evaluated.track_name(t) == "a")
    part = evaluated.samples(track, 0, 300 * 512)
    codes = {f"codes_{x}": evaluated.music.encode(evaluated.samples(track), x)[: len(part) // x] for x in LEVELS}
    monkeypatch.setattr(evaluated, "piece", lambda *_: {"audio": audio.to_u16(part), **codes})
    found = evaluated.run(("copying",))["copying"]
    for row in found["codes"]:
        assert row["codes"] == len(codes[f"codes_{row['level']}"]) and (row["track"], row["track_at"]) == ("a", 0.0)
        assert row["held_out_codes"] < row["codes"]
    assert found["passages"]["generated"]["median"] < 0.1 * found["passages"]["held_out"]["median"]


def test_a_context_free_generator_is_asked_beside_the_shipped_one(evaluated, tiny_weights, tmp_path):
    import dataclasses

    from vqwave.nn.generator import Generator

    evaluated.context_free = tmp_path / "free"
    evaluated.context_free.mkdir()
    config = dataclasses.replace(weights.find(tiny_weights.generators, "generator_128").config, source_level=0)
    weights.save(evaluated.context_free, config.name, "", Generator(config).parts, config)
    rows = {row["level"]: row for row in evaluated.run(("generators",))["generators"]}
    assert rows[128]["context_free"] == pytest.approx(6, abs=0.5) and "context_free" not in rows[32]
    (worth,) = [t for t in report.FIGURES if "trained without" in t.what]
    judged = worth.judge({"generators": list(rows.values())})
    assert judged["measured"] == rows[128]["context_free"] - rows[128]["bits"]
    # What asks a model that was trained with a context is no such figure.
    assert worth.judge({"generators": [rows[32]]})["verdict"] == "not measured"


@pytest.fixture(scope="module")
def main():
    return imported.script("evaluate").main


def test_the_command_writes_results_pictures_and_examples(main, corpus, musicnn, tiny_weights, tmp_path, capsys):
    (tmp_path / "RESULTS.md").write_text("# Results\n\nA word before.\n")
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    (runs_dir / "vqvae_8.csv").write_text("epoch,loss,val_loss\n0,3,4\n1,2,3\n")
    for name, bound in (("targets.yml", -1), ("other.yml", 1e6)):
        (tmp_path / name).write_text(f"Fréchet distance of the chain: {{must: {bound}}}\n")
    shutil.copy(corpus / "split.yml", tmp_path)
    shared = ["--data-dir", corpus / "songs", "--split", tmp_path / "split.yml", "--musicnn", musicnn, "--cache-dir",
              tmp_path / "cache", "--vqvae-weights-dir", tiny_weights.codecs, "--generator-weights-dir",
              tiny_weights.generators, "--minutes", "0.1", "--output-dir", tmp_path, "--depths", "128"]
    assert cli.entry(main, [*map(str, shared), "--only", "chain,health", "--runs", str(runs_dir)]) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "A word before." in text and "## songs" in text and "### The chain" in text and "### Codecs" not in text
    assert re.search(r"distance of the chain \| ≤ -1 \|  \| [\d.]+ \| missed \|", text)
    media = tmp_path / "docs" / "results" / "songs"
    assert {p.name for p in media.iterdir()} == {"generated_1.ogg", "generated_2.ogg", "generated_3.ogg",
                                                 "generated.png", "codes.png", "loudness.png", "training.png"}
    for file in media.iterdir():
        assert f"docs/results/songs/{file.name}" in text
        assert file.read_bytes().startswith(b"OggS" if file.suffix == ".ogg" else b"\x89PNG")
    said = capsys.readouterr().out
    assert f"wrote {tmp_path / 'RESULTS.md'}" in said and "codes.png" in said

    assert cli.entry(main, [*map(str, shared), "--only", "chain", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {"chain", "health"} and figures["chain"][0]["depth"] == 128

    assert cli.entry(main, [*map(str, shared), "--only", "chain", "--targets", str(tmp_path / "other.yml")]) == 0
    assert re.search(r"\| ≤ 1e\+06 \|  \| [\d.]+ \| must met \|", (tmp_path / "RESULTS.md").read_text())


def test_what_a_user_can_get_wrong_is_one_line(main, corpus, musicnn, tiny_weights, tmp_path, capsys):
    good = {"--data-dir": corpus / "songs", "--split": corpus / "split.yml", "--musicnn": musicnn,
            "--output-dir": tmp_path, "--cache-dir": tmp_path / "cache"}
    (tmp_path / "none.yml").write_text("validation: [a]\n")
    (tmp_path / "file").touch()
    for change, why in [
        ({"--split": tmp_path / "no.yml"}, "no.yml: no such file"), ({"--only": "codec"}, "no part of the evaluation"),
        ({"--split": tmp_path / "none.yml"}, "names no test track"), ({"--data-dir": tmp_path}, "manifest.jsonl"),
        ({"--musicnn": tmp_path, "--only": "controls"}, "it must be musicnn==0.1.0's wheel"),
        ({"--generator-weights-dir": tmp_path, "--only": "chain"}, "no weights of generator_512"),
        ({"--cache-dir": tmp_path / "file", "--only": "controls"}, "cannot be written"),
        ({"--temperatures": "hot"}, "'hot'"), ({"--targets": tmp_path / "no.yml"}, "no.yml"),
    ]:
        code = cli.entry(main, [str(x) for pair in (good | change).items() for x in pair])
        assert code == 2
        assert why in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.large
@pytest.mark.parametrize("seed", [1])
def test_the_shipped_chain_is_well_after_ten_minutes(seed):
    music = api.load()
    codes = {x: [] for x in LEVELS if x >= music.level}
    blocks = []
    with music.stream(seconds=600, seed=seed) as stream:
        for block in stream:
            blocks.append(block)
            for level in codes:
                codes[level].append(stream.codes[level])
    figures = evaluation.vitals(np.concatenate(blocks), {x: np.concatenate(c) for x, c in codes.items()})
    assert evaluation.ailments(figures) == []
    # Also not by becoming another thing: neither much louder nor much quieter than it began.
    loudness = figures["loudness_db"]
    assert abs(np.median(loudness[-12:]) - np.median(loudness[:12])) < 15
