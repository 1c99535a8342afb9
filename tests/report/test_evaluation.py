"""evaluation.py, its parts, report.py and scripts/evaluate.py: single figures by hand, and the
whole on tiny random weights.
"""

import json
import re
import shutil
from dataclasses import replace as replace_target

import imported
import numpy as np
import pytest
from prepared import data_folder, music

from vqwave import cli
from vqwave.config import TrainingConfig, preset, replace
from vqwave.data.codes import variants
from vqwave.dsp import notes
from vqwave.errors import UserError
from vqwave.io import audio, weights
from vqwave.io.splits import track_name
from vqwave.play import api
from vqwave.report import evaluation, health, report, scoring
from vqwave.report.benchmark import Target
from vqwave.report.evaluation import PARTS, Evaluation, Extent, Setting
from vqwave.report.parts import codecs, generators, loudness, part
from vqwave.report.parts import notes as notes_part

CHAIN = preset("tiny").chain
LEVELS, RATE = CHAIN.sizes, CHAIN.sample_rate

# ----------------------------------------------------------------------------------- single figures


def test_a_hum_at_the_codes_rate_is_told_from_louder_or_duller_music(rng):
    x = (0.1 * rng.normal(size=4 * RATE)).astype(np.float32)
    t = np.arange(x.size) / RATE
    for level in LEVELS:
        hum = (0.05 * np.sin(2 * np.pi * 2 * RATE / level * t)).astype(np.float32) if level > 8 else (
            0.05 * np.sin(2 * np.pi * RATE / level * t)).astype(np.float32)
        same, quieter, humming = (codecs.buzz([(x, y)], level) for y in (x, x / 2, x + hum))
        assert same["buzz_db"] == pytest.approx(0,
                                                abs=1e-9) and same["line_db"] == pytest.approx(0,
                                                                                               abs=1e-9)
        assert quieter["line_db"] == pytest.approx(-6.02, abs=0.01) and quieter["buzz_db"] < 0.01
        assert humming["buzz_db"] > 10 and humming["line_db"] > 10 and humming["notch_db"] == pytest.approx(0, abs=0.5)
        missed = codecs.buzz([(x + hum, x)], level)
        assert missed["notch_db"] < -10 and missed["buzz_db"] == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("level", [512, 128])
def test_notes_that_come_back_out_of_tune_are_no_hum(rng, level):
    t = np.arange(8 * RATE) / RATE
    notes = rng.uniform(100, 10000, 300)
    x, y = (sum(np.sin(2 * np.pi * f * t) for f in notes * off).astype(np.float32)
            for off in (1, 1.003))
    figures = codecs.buzz([(x, y)], level)
    assert figures["line_db"] > 10 and figures["buzz_db"] < 3


@pytest.mark.parametrize(("encoder", "rate"), [("libopus", 32000), ("libmp3lame", 32000)])
def test_an_encoder_gives_back_the_music_in_place_at_the_rate_named(encoder, rate):
    x = music(4.0)
    made, size = codecs.recode(x, RATE, encoder, rate)
    assert made.shape == x.shape
    assert size * 8 / 4.0 == pytest.approx(rate, rel=0.1)
    lag = np.argmax([np.dot(x[8:-8], made[i : len(made) - 16 + i]) for i in range(16)])
    assert lag == 8 and np.corrcoef(x, made)[0, 1] > 0.95


def test_baselines_know_the_sample_rate_that_they_are_asked_for():
    for rate in (3000, 22050, 44100, 96000):
        for _, encoder, bit_rate in codecs.baselines(rate):
            made, size = codecs.recode(music(2.0, sample_rate=rate), rate, encoder, bit_rate)
            assert made.shape == (2 * rate,) and size
    assert len(codecs.baselines(22050)) == 4
    for rate in 3000, 96000:
        assert {name for name, *_ in codecs.baselines(rate)} == {"Opus"}


def test_a_baseline_that_is_left_out_is_named(evaluated):
    rows = [{"codec": "vqvae_8", "level": 8, "kbps": 1.0, "sc_db": -1.0,
             "mel": 1.0, "si_sdr_db": 0.0, "fad": 9.0,
             "seconds": 40.0, "usage": 1.0, "perplexity": 9.0, "buzz_db": 0.0,
             "notch_db": 0.0, "silence_db": -70.0,
             "silence_peak_db": -50.0}]
    for rate, there in ((22050, False), (3000, True)):
        evaluated.rate = rate
        page = part.Page("", [])
        PARTS["codecs"].write(page, {"test": {"codecs": rows}}, evaluated)
        assert ("Without MP3: it knows no sample rate of 3000 "
                "Hz." in "\n".join(page.lines)) == there


def vitals(sound, codes=None):
    return health.vitals(np.asarray(sound, np.float32), {512: np.arange(50)}
                         if codes is None else codes, RATE)


def test_what_ails_a_piece_is_said(rng):
    minute = 60 * RATE
    alive = 0.1 * rng.normal(size=minute)
    assert health.ailments(vitals(alive)) == []
    dead = alive.copy()
    dead[minute // 2 :] = 0
    assert health.ailments(vitals(dead)) == ["silent for 30 s (peaks of -120 dBFS)",
                                             "ends in silence"]
    paused = alive.copy()
    paused[minute // 2 : minute // 2 + 10 * RATE] = 0
    assert health.ailments(vitals(paused)) == []
    assert any("dBFS over ten seconds" in a for a in health.ailments(vitals(np.sign(alive))))
    assert any("at full scale" in a for a in health.ailments(vitals(np.clip(4 * alive, -1, 1))))
    loop = np.tile(rng.permutation(1024)[:430], 6)  # ten seconds, over and over
    assert health.ailments(vitals(alive, {512: loop})) == ["50 s repeated exactly at 512x"]


def test_a_pause_is_heard_by_rms_whatever_its_peaks(rng):
    """What a codec makes of digital silence: -66 dBFS with a tick of -48 in every tenth of a
    second.
    """
    alive = 0.1 * rng.normal(size=60 * RATE)
    hiss = 10 ** (-70 / 20) * rng.normal(size=25 * RATE)
    hiss[:: RATE // 10] = 10 ** (-48 / 20)
    alive[10 * RATE : 35 * RATE] = hiss
    figures = vitals(alive)
    assert figures["pause"] == pytest.approx(25,
                                             abs=0.21) and figures["pause_at"] == pytest.approx(10,
                                                                                                abs=0.11)
    assert figures["pause_peak_db"] == pytest.approx(-48, abs=0.1)
    assert health.ailments(figures) == ["silent for 25 s (peaks of -48 dBFS)"]
    assert figures["pause_inside"] == pytest.approx(25, abs=0.21)
    assert vitals(0.1 * rng.normal(size=RATE))["pause_peak_db"] is None


def test_how_loud_a_piece_is_is_known_by_hand():
    """40 s at -20 dBFS of which every fourth moment of the first 20 is at -50, and a rest that is
    no whole moment.
    """
    moment = round(0.4 * RATE)
    levels = np.full(100, -20.0)
    levels[:50:4] = -50
    sound = np.concatenate([np.repeat(10 ** (levels / 20), moment), np.zeros(moment // 2)])
    found = loudness.describe([loudness.moments(sound, RATE), loudness.moments(sound[:100], RATE)])
    assert found["median_db"] == pytest.approx(-20) and found["quiet"] == pytest.approx(14 / 101)
    assert found["first_quiet"] == pytest.approx(14 / 76)
    assert loudness.moments(np.zeros(moment), RATE) == pytest.approx([-120])


def test_the_loudness_of_each_side_stands_beside_what_is_generated(evaluated):
    found = evaluated.run(("loudness",))
    rows = {row["what"]: row for row in found["loudness"]}
    assert list(rows)[:3] == ["the tracks themselves", "training tracks", "validation tracks"]
    assert len(rows) == 3 + len(evaluated.plan.settings)
    expected = loudness.describe([loudness.moments(evaluated.samples(t), evaluated.rate)
                                  for t in evaluated.test])  # which begin and end with sound
    assert {k: rows["the tracks themselves"][k] for k in expected} == pytest.approx(expected)
    assert found["fresh"]["loudness"][0] != found["loudness"][0]
    assert found["fresh"]["loudness"][1:] == found["loudness"][1:]


def test_silence_at_the_ends_is_no_pause_inside(rng):
    piece = 0.1 * rng.normal(size=30 * RATE)
    piece[: 8 * RATE] = piece[-9 * RATE :] = 0
    piece[15 * RATE : 17 * RATE] = 0
    figures = vitals(piece)
    assert figures["pause"] == pytest.approx(9,
                                             abs=0.11) and figures["pause_inside"] == pytest.approx(2, abs=0.21)
    assert vitals(np.zeros(5 * RATE))["pause_inside"] == 0


def test_settings_are_read_and_refused():
    made = evaluation.parse_settings(CHAIN, [8, 128], ["default", "0.9", "1,0.9,0.8,0.7"], 0.95)
    assert [s.depth for s in made] == [8] * 3 + [128] * 3
    plain = dict.fromkeys(LEVELS, {"top_p": 0.95})
    assert made[0].sampling(CHAIN) == plain
    assert made[1].sampling(CHAIN) == {x: {"temperature": 0.9, "top_p": 0.95} for x in LEVELS}
    assert evaluation.Setting(8).sampling(CHAIN) == {}
    # A chain that ends sooner has the first ones; a variation, whose first generators rest, the
    # last of those.
    assert [one["temperature"] for one in made[5].sampling(CHAIN).values()] == [1, 0.9]
    assert {x: one["temperature"] for x, one in made[2].sampling(CHAIN, [128, 32, 8]).items()} == {
        128: 0.9, 32: 0.8, 8: 0.7}
    with pytest.raises(UserError, match="'warm'"):
        evaluation.parse_settings(CHAIN, [8], ["warm"])
    with pytest.raises(UserError, match="4 levels; 2 temperatures"):
        evaluation.parse_settings(CHAIN, [8], ["1,1"])


def judged(targets, what, **figures):
    (target,) = [t for t in targets if t.what == what]
    return target.judge({"codecs": [{"level": 32, **figures}]})["verdict"]


def test_targets_are_read_and_only_a_bound_that_is_there_is_met(tmp_path):
    path = tmp_path / "targets.yml"
    path.write_text("SC, 32x: {must: -14.5, aim: -16}\nSI-SDR, 32x: {aim: 13}\nmel, 32x: {must: "
                    "0.5}\n")
    targets = report.read_targets(path, report.figures(CHAIN))
    for value, verdict in ((-16, "aim met"), (-15, "must met"), (-14, "missed"),
                           (float("nan"), "missed")):
        assert judged(targets, "SC, 32x", sc_db=value) == verdict
    for value, verdict in ((13, "aim met"), (12, "aim missed")):
        assert judged(targets, "SI-SDR, 32x", si_sdr_db=value) == verdict
    assert [judged(targets, "mel, 32x", mel=x) for x in (0.4, 0.6)] == ["must met", "missed"]
    assert judged(targets, "Fréchet distance, 32x", fad=1.0) == ""
    assert judged(targets, "Fréchet distance, 32x") == "not measured"
    assert judged(report.figures(CHAIN), "SC, 32x", sc_db=-30) == ""
    upper = replace(CHAIN, levels=CHAIN.levels[:1])
    targets = report.read_targets(path, report.figures(upper), report.figures(CHAIN))
    assert not [t for t in targets if "32x" in t.what], "bounds of other levels do not matter"
    with pytest.raises(UserError, match="there is no figure 'SC, 32x'"):
        report.read_targets(path, report.figures(upper))


@pytest.mark.parametrize("text, why", [
    ("SC, 31x: {aim: 1}", "did you mean 'SC, 32x'?"), ("SC, 8x: 3", "'SC, 8x' must have a number"),
    ("SC, 8x: {}", "'SC, 8x' must have a number"),
    ("SC, 8x: {least: 1}", "'SC, 8x' must have a number"),
    ("SC, 8x: {aim: .inf}", "'SC, 8x' must have a number"),
    ("SC, 8x: {aim: yes}", "'SC, 8x' must have a number"),
    ("[1]", "targets.yml"),
])
def test_targets_that_are_none_are_refused_in_one_line(tmp_path, text, why):
    (tmp_path / "targets.yml").write_text(text)
    with pytest.raises(UserError) as caught:
        report.read_targets(tmp_path / "targets.yml", report.figures(CHAIN))
    assert why in str(caught.value) and "targets.yml" in str(caught.value) and "\n" not in str(caught.value)


def test_only_distances_of_one_size_share_a_column():
    rows = [{"setting": "a", "fad": 1.0, "seconds": 600.0, "reference_seconds": 900.0},
            {"setting": "b", "fad": 2.0, "seconds": 300.0, "reference_seconds": 900.0},
            {"setting": "c", "fad": 3.0, "seconds": 600.0, "reference_seconds": 900.0}]
    def tables(sides):
        return part.by_size(sides, ("chain",), lambda row: (row["setting"],))

    assert tables({"test": rows}) == [
        [("chain", "distance, 600 s to 900 s"), ("a", "1.0"), ("c", "3.0")],
        [("chain", "distance, 300 s to 900 s"), ("b", "2.0")]]
    # Other tracks are another amount of sound: the same piece has a column for each side.
    fresh = [{**row, "fad": 10 * row["fad"], "reference_seconds": 700.0}
             for row in reversed(rows[:2])]
    assert tables({"test": rows, "fresh": fresh}) == [
        [("chain", "distance, test tracks, 600 s to 900 s", "distance, fresh tracks, 600 s to 700 "
                                                            "s"),
         ("a", "1.0", "10.0")],
        [("chain", "distance, test tracks, 300 s to 900 s", "distance, fresh tracks, 300 s to 700 "
                                                            "s"),
         ("b", "2.0", "20.0")],
        [("chain", "distance, test tracks, 600 s to 900 s"), ("c", "3.0")]]


def test_the_figures_that_stand_first_say_how_many_seconds_a_distance_is_of(evaluated):
    """And a table of those of each amount."""
    chain = {"setting": "a", "fad": 16.74, "each": [16.74], "seconds": 600.0,
             "reference_seconds": 928.2}
    variation = {**chain, "fad": 15.95, "seconds": 573.4, "depth": 128, "keep": 512}
    codecs_rows = [{"codec": f"vqvae_{level}", "level": level, "fad": fad,
                    "seconds": 120.0, "mel": 0.5}
                   for level, fad in ((8, 7.642), (32, 21.74))]
    results = {"chain": [chain], "variations": [variation], "codecs": codecs_rows}
    fresh = {"chain": [{**chain, "fad": 19.68, "reference_seconds": 987.4}], "variations": [],
             "codecs": [{**row, "seconds": 80.0} for row in codecs_rows]}
    page = part.Page("", [])
    targets = tuple(replace_target(t, must=22) if "distance" in t.what
                    else t for t in report.figures(CHAIN))
    report._write_figures(page, {"test": results, "fresh": fresh}, evaluated, targets)
    text = "\n".join(page.lines)
    heads = [line for line in page.lines if line.startswith("|  | must")]
    assert heads == [
        "|  | must | aim | test tracks | verdict | fresh tracks | verdict |",
        *(f"|  | must | aim | distance, test tracks, {test} | verdict | {fresh} | verdict "
          f"|" for test, fresh in (
            ("120 s to 120 s", "distance, fresh tracks, 80 s to 80 s"),
            ("600 s to 928 s", "distance, fresh tracks, 600 s to 987 s"),
            ("573 s to 928 s", "fresh tracks")))]
    first, *others = text.split("|  | must")[1:]
    assert "| mel, 8x |" in first and "| Fréchet" not in first
    assert [re.findall(r"^\| (Fréchet[^|]*) \|", other, re.MULTILINE) for other in others] == [
        ["Fréchet distance, 8x", "Fréchet distance, 32x"], ["Fréchet distance of the chain"],
        ["Fréchet distance of variations, 512x kept"]]
    assert "| Fréchet distance, 8x | ≤ 22 |  | 7.642 | must met | 7.642 | † |" in text
    page = part.Page("", [])
    report._write_figures(page, {"test": {"chain": [chain]}}, evaluated, report.figures(CHAIN))
    assert "|  | must | aim | distance, 600 s to 928 s | verdict |" in page.lines


def test_codecs_distances_say_how_many_seconds_they_are_of():
    row = {"codec": "vqvae_8", "kbps": 27.56, "sc_db": -26.5, "mel": 0.271,
           "si_sdr_db": 23.7, "fad": 7.6,
           "seconds": 120.0}
    sides = {side: {"codecs": [row | {"seconds": seconds}]}
             for side, seconds in (("test", 120.0), ("fresh", 80.0))}
    head, line = part.side_by_side([codecs._near(found, side) for side, found in sides.items()], 2)
    assert head[5:7] == ("distance, test tracks, 120 s to 120 s",
                         "distance, fresh tracks, 80 s to 80 s")
    assert line[4:7] == ("23.70", "7.6", "7.6")


def test_two_sides_stand_in_one_cell_where_they_differ():
    test = [("codec", "kbit/s", "mel"), ("x", "1.7", "0.5"), ("y", "6.9", "")]
    fresh = [("codec", "kbit/s", "mel"), ("x", "1.7", "0.6"), ("z", "2.0", "0.1")]
    assert part.side_by_side([test, fresh]) == [
        ("codec", "kbit/s", "mel"), ("x", "1.7", "0.5 / 0.6"), ("y", "6.9 / –", ""),
        ("z", "– / 2.0", "– / 0.1")]
    # What is of something else on each side has a column for each.
    distances = [[("codec", "kbit/s", name, "notes"), ("x", "1.7", value, "0.3")]
                 for name, value in (
        ("distance, 120 s", "7.6"), ("distance, 80 s", "9.0"))]
    assert part.side_by_side(distances) == [
        ("codec", "kbit/s", "distance, 120 s", "distance, 80 "
                                               "s", "notes"), ("x", "1.7", "7.6", "9.0", "0.3")]
    assert part.side_by_side([test]) == test


def test_a_verdict_needs_a_bound_and_names_its_levels():
    by_what = {t.what: t for t in report.figures(CHAIN)}
    asked = by_what["bits that the context is worth, asked without it, worst "
                    "level"].judge({"generators": [
        {"level": 128, "bits": 5.0, "padded": 5.1}, {"level": 32, "bits": 5.0, "padded": 6.0}]})
    assert asked["measured"] == pytest.approx(0.1) and asked["verdict"] == ""
    assert asked["what"].endswith("worst level of 128x, 32x")
    used = by_what["codes in use, worst level"].judge({"codecs": [
        {"level": 512, "usage": 0.99}, {"level": 8, "usage": 0.96}, {"level": 0}]})
    assert (used["what"], used["measured"], used["verdict"]) == (
        "codes in use, worst level of 512x, 8x", 0.96, "")
    aimed = replace_target(by_what["codes in use, worst level"], aim=0.95)
    assert aimed.judge({"codecs": [{"level": 8, "usage": 0.5}]})["verdict"] == "aim missed"
    assert report.bound({"sign": "≥", "must": None, "unit": "dB"}, "must") == ""


def test_what_the_targets_of_notes_are_measured_by():
    targets = {t.what: t for t in report.figures(CHAIN)}
    results = {
        "generators": [{"level": 512, "bits": 5.0}],
        "health": [{"setting": "a", "pause_inside": 2.0}, {"setting": "a", "pause_inside": 3.0},
                   {"setting": "b", "pause_inside": 9.0}],
        "copying": {"codes": [{"level": 512, "moving": {"seconds": 1.5, "held_out_seconds": 1.0}},
                              {"level": 128, "moving": {"seconds": 3.0, "held_out_seconds": 1.0}}]},
        "notes": {
            "codecs": [{"level": 512, "notes": 0.3, "chroma": 0.4},
                       {"level": 0, "notes": 0.8, "chroma": 0.9}],
            "chain": [{"intervals": 0.1, "line": 2.2}], "variations": [{"keep": 128, "notes": 0.5}],
            "context": [{"level": 512, "bits": {"2": 4.0, "8": 3.9, "30": 3.8}}],
            "continuations": {"won": 0.75}},
    }
    expected = {
        "bits a second to predict, 512x": 5.0 * RATE / 512, "bits a second to predict, 8x": None,
        "longest pause inside": 3.0, "notes kept, 512x": 0.3, "chroma, 512x": 0.4,
        "notes kept, 8x": None,
        "divergence of the chain's intervals": 0.1, "notes a second of the chain's strongest "
                                                    "line": 2.2,
        "notes kept of variations, 128x kept": 0.5, "notes kept of variations, 512x kept": None,
        "bits a frame at the top, with 30 s of past against 2 s": -5.0,
        "continuations nearer to their own track than to another, share of pairs": 75.0,
    }
    for what, value in expected.items():
        assert targets[what].judge(results)["measured"] == (value if value is None
                                                            else pytest.approx(value)), what
    copied = targets["longest copy but for held sounds, beyond test music's own, worst "
                     "level"].judge(results)
    assert copied["measured"] == pytest.approx(2.0) and copied["what"].endswith("worst level of 512x, 128x")
    results["notes"]["continuations"], results["notes"]["context"] = None, []
    assert targets["continuations nearer to their own track than to another, share of pairs"].judge(
        results)["verdict"] == "not measured"
    assert all(isinstance(one, Target) and one.judge({})["verdict"] == "not measured"
               for one in targets.values())


def test_a_continuation_wins_against_those_of_other_tracks_alone():
    real = np.eye(4)
    made = np.array([[1, 0.5, 0, 0], [0, 1, 0, 0], [0.9, 0, 0.1, 0], [0, 0, 0, 0]])
    # The first two are of one track: whether they are told apart does not matter.
    pairs = [[1, 1], [1, 1], [0, 1, 1], [0.5, 0.5, 0.5]]
    assert notes_part.share_won(made, real,
                                [0, 0, 1, 2]) == pytest.approx(np.mean(np.concatenate(pairs)))


def test_a_section_of_the_results_is_replaced_and_the_rest_is_kept():
    one = report.merge("# Results\n\nBy hand.\n", "a", "first \\1")
    both = report.merge(one, "b", "other")
    again = report.merge(both, "a", "second")
    assert "By hand." in again and "other" in again and "second" in again and "first" not in again
    assert report.merge(again, "a", "second") == again


# ---------------------------------------------------------------------------------------- the whole


@pytest.fixture(scope="module")
def musicnn(tmp_path_factory):
    """A checkpoint of the right names with random numbers, narrower than the real one: what fad.py
    reads.
    """
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("musicnn")
    rng = np.random.default_rng(0)
    values, channels = {}, 1
    for i in range(6):
        if i:
            values |= {f"{i}CNN/kernel": 0.2 * rng.normal(size=(3, 3, channels, 8)),
                       f"{i}CNN/bias": np.zeros(8)}
            channels = 8
        for key in ("gamma", "beta", "moving_mean", "moving_variance"):
            values[f"model/batch_normalization{f'_{i}' * (i > 0)}/{key}"] = np.abs(1
                                                                                   + 0.1 * rng.normal(size=channels))
    made = folder / "musicnn" / "MSD_vgg"
    made.mkdir(parents=True)
    names = list(values)
    tf.raw_ops.SaveV2(prefix=str(folder / "m"), tensor_names=names,
                      shape_and_slices=[""] * len(names),
                      tensors=[tf.constant(values[n], tf.float32) for n in names])
    for end in (".index", ".data-00000-of-00001"):
        shutil.move(folder / f"m{end}", made / end)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A prepared folder `songs` and its split.yml, with codecs at their real rate."""
    root = tmp_path_factory.mktemp("corpus")
    data_folder(root / "songs", {name: music(seconds, i) for i, (name, seconds) in enumerate(
        {"a": 12.0, "b": 9.0, "c": 9.0, "heard": 8.0, "one": 9.0, "two": 10.0}.items())})
    (root / "split.yml").write_text("test: [two, one]\nvalidation: [heard]\nfresh: [b]\n")
    return root


PLAN = Extent((Setting(8),), minutes=0.15, bits_seconds=2.0, warm_up=0.5, offsets=2)


@pytest.fixture
def evaluated(corpus, musicnn, tiny_weights, tmp_path):
    music = api.load(tiny_weights.codecs, tiny_weights.generators)
    return Evaluation(music, corpus / "songs", corpus / "split.yml", PLAN,
                      cache_dir=tmp_path / "cache",
                      musicnn=musicnn)


def test_bits_are_those_of_the_teacher_forced_model(evaluated, tiny_weights):
    """The figure for real codes, against one call of the Keras model on the same ones."""
    import keras

    from vqwave.nn.generator import load_generator

    evaluated.music = api.load(tiny_weights.codecs, tiny_weights.generators, engine="onnx-float32")
    for level in (512, 128):
        found = evaluated.music.weight_set(CHAIN.generators[level])
        spans, warm = generators.cut_middles(evaluated, found.config)
        codes = scoring.read_spans(spans, 1)
        assert codes.shape == (2, (round(2.5 * RATE) // 512 * 512) // level, 1)
        start = np.full((2, 1, 1), found.config.start_token)
        inputs = {"previous": np.concatenate([start, codes[:, :-1]], 1)}
        if found.config.source:
            inputs["source"] = sources_of(found.config, spans)
        logits = load_generator(found)(inputs)
        losses = keras.ops.sparse_categorical_crossentropy(codes, logits, from_logits=True)
        expected = float(np.mean(np.asarray(losses)[:, warm:, 0]) / np.log(2))
        generator = evaluated.music.generator(level)
        nats = scoring.score(generator, spans)
        assert nats.shape == codes.shape[:2]
        assert -nats[:, warm:].mean() / np.log(2) == pytest.approx(expected, abs=1e-4)
        # The codes and their sources are those of the whole track, in line.
        track = evaluated.test[1]
        whole = evaluated.music.encode(evaluated.samples(track), level)
        first = (track.samples - codes.shape[1] * level) // 2 // 512 * 512 // level
        np.testing.assert_array_equal(codes[1, :, 0], whole[first : first + codes.shape[1]])


def sources_of(config, spans):
    """The frames above some spans and around them: int32 [spans, n / ratio + 2·halo, books]."""
    return np.stack([scoring.window_above(config.source, config, [span]) for span in spans])


def test_a_source_may_be_nothing_or_another_tracks(evaluated):
    config = evaluated.music.weight_set("generator_128").config
    spans, _ = generators.cut_middles(evaluated, config)
    own = sources_of(config, spans)
    assert (sources_of(config, scoring.pad_sources(spans, config)) == config.pad_token).all()
    np.testing.assert_array_equal(sources_of(config, scoring.swap_sources(spans, config)),
                                  own[::-1])
    (alone,) = sources_of(config, scoring.swap_sources(spans[:1], config))
    np.testing.assert_array_equal(alone, np.roll(own[0], len(own[0]) // 2, 0))


def test_everything_is_measured_once_and_kept(evaluated, tiny_weights, tmp_path):
    parts = ("controls", "codecs", "chain", "loudness", "health")
    found = evaluated.run(parts)
    assert set(found) == {*parts, "fresh"} and set(found["fresh"]) == {"controls",
                                                                       "codecs", "chain",
                                                                       "loudness"}
    # The same piece, compared with another track.
    assert found["fresh"]["chain"][0]["fad"] != found["chain"][0]["fad"]
    assert found["fresh"]["chain"][0]["reference_seconds"] == pytest.approx(9.0)
    controls = {row["what"]: row["fad"] for row in found["controls"]}
    assert set(controls) == {"white noise", "silence", "validation tracks", "training tracks"}
    sizes = {row["what"]: row["seconds"] for row in found["controls"]}
    assert sizes.pop("validation tracks") == pytest.approx(8.0) and set(sizes.values()) == {9.0}
    assert all(row["reference_seconds"] == pytest.approx(19.0) for row in found["controls"])
    rows = {row["codec"]: row for row in found["codecs"]}
    assert list(rows) == [*CHAIN.codecs.values(), "Opus 32", "Opus 6", "MP3 32", "MP3 8"]
    assert rows["MP3 32"]["sc_db"] < rows["MP3 8"]["sc_db"]
    for level in LEVELS:
        assert 0 < rows[CHAIN.codecs[level]]["usage"] <= 1 and -120 <= rows[CHAIN.codecs[level]]["silence_db"] <= 0
    assert found["chain"][0]["fad"] > 0 and found["health"][0]["seconds"] == pytest.approx(9.0)

    # Nothing is measured again, and what is not cached is not measured unless asked for.
    told = []
    evaluated.progress = lambda part, what, share: told.append((part, what))
    assert evaluated.run(parts) == found
    assert evaluated.run(()) == found
    assert not told
    # Other weights, other figures: a folder with one set changed finds the rest.
    other = tmp_path / "other"
    shutil.copytree(tiny_weights.codecs, other)
    there = weights.find(other, "vqvae_32")
    weights.save(other, "vqvae_32", "",
                 {p: {k: 0.9 * v for k, v in there.load(p).items()} for p in there.files},
                 there.config)
    evaluated.music = api.load(other, tiny_weights.generators)
    again = evaluated.run(("codecs",))["codecs"]
    assert {what.split(" ")[0] for _, what in told} == {"vqvae_32"}
    changed = [a["codec"] for a, b in zip(again, found["codecs"], strict=True) if a != b]
    assert changed == ["vqvae_32"]


def test_variations_copies_and_bits(evaluated):
    evaluated.plan = Extent((Setting(32, (0.9,)),), minutes=0.1, bits_seconds=1.0,
                            warm_up=0.5, offsets=2)
    found = evaluated.run(("generators", "variations", "copying"))
    assert [(r["depth"], r["keep"]) for r in found["variations"]] == [(32, 512),
                                                                      (32, 128), (32, 32)]
    assert [r["generator"] for r in found["generators"]] == list(CHAIN.generators.values())
    for row in found["generators"]:
        # random weights: about six bits of 64 codes
        assert 0 < row["unigram"] < 10 and 5 < row["bits"] < 7
        assert ("padded" in row) == ("foreign" in row) == (row["level"] < 512)
    copied = found["copying"]["codes"]
    assert [r["level"] for r in copied] == [512, 128, 32]
    assert all(r["track"] in ("a", "b", "c") and r["seconds"] == r["codes"] * r["level"] / RATE
               for r in copied)


NOTES = Extent((Setting(128),), minutes=0.1, bits_seconds=1.0, warm_up=0.5,
               pasts=(0.5, 1.0, 30.0), continuations=3,
               prompt_seconds=1.0, offsets=1)


def test_notes_of_codecs_chains_variations_and_continuations(evaluated, corpus, tmp_path):
    evaluated.plan = NOTES
    found = evaluated.run(("notes",))
    assert set(found) == {"notes", "fresh"}
    measured = found["notes"]
    rows = {row["codec"]: row for row in measured["codecs"]}
    assert list(rows) == [*CHAIN.codecs.values(), "Opus 32", "Opus 6", "MP3 32", "MP3 8"]
    assert rows["MP3 32"]["notes"] > 0.9 and rows["MP3 32"]["chroma"] > 0.95
    assert rows["MP3 32"]["notes"] > rows["Opus 6"]["notes"] > rows["vqvae_512"]["notes"]
    # As the figures of a codec are made of its own pairs.
    pairs = codecs.decode_excerpts(evaluated, 32)
    assert len(pairs) == 2 and rows["vqvae_32"]["notes"] == pytest.approx(
        np.mean([notes.compare(x, y, RATE)["notes"] for x, y in pairs]))

    music = {row["what"]: row for row in measured["music"]}
    assert set(music) == {"the tracks themselves", "training tracks", "validation tracks"}
    (chain,) = measured["chain"]
    # Random weights make noise, which is further from music than music is.
    assert chain["intervals"] > music["training tracks"]["intervals"] and chain["lines"] == [chain["line"]]
    assert chain["each"][0]["key"] == chain["key"]
    # Each variation ends one level below what it keeps, though the chain ends at 128x.
    assert [(row["keep"], row["depth"]) for row in measured["variations"]] == [(512, 128),
                                                                               (128, 32), (32, 8)]
    assert all(0 <= row["notes"] <= 1 for row in measured["variations"])
    assert [row["generator"] for row in measured["context"]] == ["generator_512", "generator_128"]
    for row in measured["context"]:
        assert list(row["bits"]) == ["0.5", "1"] and all(5 < bits < 7
                                                         for bits in row["bits"].values())
    assert set(measured["continuations"]) == {"setting", "won", "prompt_won"}
    assert found["fresh"]["notes"]["continuations"] is None  # one track: nothing to mistake it for

    told = []
    evaluated.progress = lambda part, what, share: told.append(what)
    assert evaluated.run(("notes",)) == found and not told

    found["codecs"] = [{"codec": "vqvae_512", "level": 512, "kbps": 0.43,
                        "sc_db": -1.0, "mel": 1.0, "si_sdr_db": 0.0,
                        "fad": 9.0, "seconds": 40.0, "usage": 1.0, "perplexity": 9.0,
                        "buzz_db": 0.0, "notch_db": 0.0,
                        "silence_db": -70.0, "silence_peak_db": -50.0}]
    found["chain"] = [{"setting": chain["setting"], "fad": 9.0, "each": [9.0], "seconds": 6.0,
                       "reference_seconds": 19.0}]
    targets = tuple(replace_target(t, must=-1.0) if t.what == "notes kept, 512x"
                    else t for t in report.figures(CHAIN))
    text = report.section(found, evaluated, "songs", ["notes.png"], "", targets)
    # Nobody knows whether these models have heard the fresh tracks.
    assert re.search(r"\| notes kept, 512x \| ≥ -1 \|  \| 0.\d+ \| must met \| 0.\d+ \| must met\\\* \|", text)
    assert "\\* Of music that a model was, or may have been, trained on." in text and "†" not in text
    kept = rows["vqvae_512"]
    assert f"| vqvae_512 | 0.43 | -1.00 | 1.000 | 0.00 | 9.0 | {kept['notes']:.3f} | {kept['chroma']:.3f} |" in text
    assert "### Notes" in text and "![Piano rolls of an original" in text and "notes_generated" not in text
    assert re.search(r"\| generator_512 \| \d\.\d\d( / \d\.\d\d)? \| \d\.\d\d", text)
    assert "divergence of its statistics" in text and "| training tracks |" in text
    # Their fresh figures stand beside them.
    assert re.search(r"\| 512x \| 128x \| 0\.\d{3} / 0\.\d{3} \|", text)


def test_past_is_counted_on_the_same_frames(evaluated, tiny_weights, monkeypatch):
    """A generator that only knows the frame before: no more past helps it, and every frame that is
    counted is the same one.
    """
    evaluated.plan = NOTES
    found = evaluated.music.weight_set("generator_128")
    seen = []

    def fake(generator, spans, previous):
        codes = scoring.read_spans(spans, 1)
        seen.append((codes, sources_of(found.config, spans), previous))
        return -np.log(2.0) * (codes[..., 0] % 8).astype(float)

    monkeypatch.setattr(scoring, "score", fake)
    row = notes_part.measure_pasts(evaluated, found, [0.5, 2.0])
    half = len(seen) // 2
    short, long = (np.concatenate([c for c, _, _ in some]) for some in (seen[:half], seen[half:]))
    assert row["bits"]["0.5"] == row["bits"]["2"] and row["frames"] == len(short) * 172
    np.testing.assert_array_equal(short, long[:, -short.shape[1] :])
    # The frame before the first is the real one.
    befores = np.concatenate([before for _, _, before in seen[:half]])
    np.testing.assert_array_equal(befores[:, 0], long[:, -short.shape[1] - 1, 0])
    # A source frame stands for four, with the halo around them.
    track, halo = evaluated.samples(evaluated.test[0])[None], found.config.halo
    codes, source = (evaluated.music.codec(x).encode(track)[0] for x in (128, 512))
    (begin,) = [i for i in range(len(codes))
                if np.array_equal(codes[i : i + short.shape[1]], short[0])]
    np.testing.assert_array_equal(seen[0][1][0][halo:-halo],
                                  source[begin // 4 : (begin + short.shape[1]) // 4])


def test_the_notes_of_levels_and_of_pieces_are_drawn(evaluated, tmp_path):
    evaluated.plan = NOTES
    gallery = part.Gallery(tmp_path, RATE)
    PARTS["notes"].draw({}, evaluated, gallery)
    assert [path.name for path in gallery.written] == ["notes.png", "notes_generated.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in gallery.written)


def test_a_copy_is_found_where_it_was_taken(evaluated, monkeypatch):
    """A "generated" piece that is a training track, three seconds in: its codes, and its
    embeddings, are all there.
    """
    track = next(t for t in evaluated.train if track_name(t) == "a")
    part = evaluated.samples(track, 0, 300 * 512)
    codes = {f"codes_{x}": evaluated.music.encode(evaluated.samples(track), x)[: len(part) // x]
             for x in LEVELS}
    monkeypatch.setattr(evaluated, "piece", lambda *_: {"audio": audio.to_u16(part), **codes})
    found = evaluated.run(("copying",))["copying"]
    for row in found["codes"]:
        assert row["codes"] == len(codes[f"codes_{row['level']}"]) and (row["track"],
                                                                        row["track_at"]) == ("a",
                                                                                             0.0)
        assert row["held_out_codes"] < row["codes"]
        assert row["moving"]["codes"] <= row["codes"] and row["moving"]["seconds"] >= row["moving"]["held_out_seconds"]
    near = found["passages"]
    assert near["generated"]["median"] < 0.1 * near["held_out"]["median"]
    assert near["generated"]["track"] == "a" and near["generated"]["track_at"] == near["generated"]["at"]
    assert near["held_out"]["track"] in ("a", "b", "c") and near["held_out"]["of"] in (
        "one", "two") and -60 < near["held_out"]["loudness_db"] < 0


def test_a_transposed_copy_is_found_where_a_generator_heard_its_tracks_transposed(
        evaluated, tiny_weights, tmp_path, monkeypatch):
    """A "generated" piece that is a training track two semitones up, as training encoded it."""
    own = next(t for t in evaluated.train if track_name(t) == "a")
    (variant,) = [v for v in variants(2, 2, 512) if v.shift == 2]
    sound = evaluated.samples(own)
    sound = np.concatenate(list(audio.transpose([sound], len(sound), 2)))
    made = sound[: 200 * 512]
    codes = {f"codes_{x}": evaluated.music.encode(sound[variant.start :], x)[: len(made) // x]
             for x in LEVELS}
    found = {}
    for most in (0, 1, 2):
        folder = tmp_path / str(most)
        folder.mkdir()
        for path in tiny_weights.generators.glob("generator_*.yml"):
            one = weights.find(tiny_weights.generators, path.stem)
            training = TrainingConfig(transpose=most if one.name == "generator_512" else 0)
            weights.save(folder, one.name, "", {p: one.load(p) for p in one.files},
                         one.config, training=training)
        weights.save_chain(folder, CHAIN)
        evaluated.music = api.load(tiny_weights.codecs, folder)
        monkeypatch.setattr(evaluated, "piece", lambda *_: {"audio": audio.to_u16(made), **codes})
        found[most] = evaluated.run(("copying",))["copying"]
    for row, without, near in zip(*(found[most]["codes"] for most in (2, 0, 1)), strict=True):
        assert row["codes"] == len(codes[f"codes_{row['level']}"]) and row["held_out_codes"] < row["codes"]
        assert (row["track"], row["shift"]) == ("a", 2)
        # Where it is in the track as it is, which plays slower.
        assert row["track_at"] == pytest.approx(variant.start * 2 ** (2 / 12) / RATE)
        assert max(without["codes"], near["codes"]) < 0.5 * row["codes"] and "shift" not in without
    near, without = (found[most]["passages"]["generated"] for most in (2, 0))
    assert (near["track"], near["shift"]) == ("a", 2) and near["track_at"] == pytest.approx(
        near["at"] * 2 ** (2 / 12))
    assert near["median"] < 0.1 * without["median"] and "shift" not in without
    page = part.Page("", [])
    PARTS["copying"].write(page, {"test": {"copying": found[2]}}, evaluated)
    text = "\n".join(page.lines)
    assert "or transposed by up to 2 semitones up or down, as in training" in text
    assert "| a at 0.0 s, +2 semitones |" in text


def test_tracks_that_a_model_was_trained_on_are_named(evaluated, tiny_weights, tmp_path):
    """By its record; without one nobody knows, and the fresh tracks count as heard, and as what may
    be copied.
    """
    assert set(evaluated.overlap()) == set(CHAIN.names) and set(evaluated.overlap().values()) == {None}
    assert [track_name(t) for t in evaluated.copyable] == ["a", "c", "b"]
    words = report._describe_choices(evaluated)
    assert "no record" in words
    words = report._describe_choices(evaluated.for_side("fresh"))
    assert "has seen them" in words and "vqvae_8" in words and "nothing was chosen" in words

    folders = []
    for shipped in (tiny_weights.codecs, tiny_weights.generators):
        folders.append(tmp_path / shipped.name)
        folders[-1].mkdir()
        for path in shipped.glob("*.yml"):
            found = weights.find(shipped, path.stem)
            heard = [t for t in evaluated.train if track_name(t) != "c"]
            if found.name == "vqvae_32":
                heard += evaluated.test[:1]
            arrays = {part: found.load(part) for part in found.files}
            weights.save(folders[-1], found.name, "", arrays, found.config,
                         record={"tracks": [t.sha256[:16] for t in heard]})
    evaluated.music = api.load(*folders)
    evaluated.__dict__.pop("copyable")
    met = evaluated.overlap()
    assert met.pop("vqvae_32") == ["two"] and set(map(tuple, met.values())) == {()}
    words = report._describe_choices(evaluated)
    assert "**vqvae_32 was trained on two**" in words and "vqvae_8" in words.split("trained on none")[0]
    assert [track_name(t) for t in evaluated.copyable] == ["a", "c"]


def test_what_was_chosen_by_the_test_tracks_is_said(evaluated):
    evaluated.split = replace(evaluated.split, chosen_by_test="the temperature")
    assert "chosen by looking at them: the temperature." in report._describe_choices(evaluated)
    assert "the temperature" not in report._describe_choices(evaluated.for_side("fresh"))


def test_a_context_free_generator_is_asked_beside_the_shipped_one(evaluated,
                                                                  tiny_weights, tmp_path):
    from vqwave.nn.generator import Generator

    evaluated.context_free = tmp_path / "free"
    evaluated.context_free.mkdir()
    config = replace(weights.find(tiny_weights.generators, "generator_128").config, conditions=[])
    weights.save(evaluated.context_free, config.name, "", Generator(config).parts, config)
    rows = {row["level"]: row for row in evaluated.run(("generators",))["generators"]}
    assert rows[128]["context_free"] == pytest.approx(6, abs=0.5) and "context_free" not in rows[32]
    (worth,) = [t for t in report.figures(CHAIN) if "trained without" in t.what]
    judged = worth.judge({"generators": list(rows.values())})
    assert judged["measured"] == rows[128]["context_free"] - rows[128]["bits"]
    # What asks a model that was trained with a context is no such figure.
    assert worth.judge({"generators": [rows[32]]})["verdict"] == "not measured"


@pytest.fixture(scope="module")
def main():
    return imported.script("evaluate").main


def test_the_command_writes_results_pictures_and_examples(main, corpus,
                                                          musicnn, tiny_weights, tmp_path, capsys):
    (tmp_path / "RESULTS.md").write_text("# Results\n\nA word before.\n")
    runs_dir = tmp_path / "runs"
    runs_dir.mkdir()
    (runs_dir / "vqvae_8.csv").write_text("epoch,loss,val_loss\n0,3,4\n1,2,3\n")
    for name, bound in (("targets.yml", -1), ("other.yml", 1e6)):
        (tmp_path / name).write_text(f"Fréchet distance of the chain: {{must: {bound}}}\n"
                                     "longest pause inside: {must: 99}\n")
    shutil.copy(corpus / "split.yml", tmp_path)
    shared = ["--data-dir", corpus / "songs", "--split", tmp_path / "split.yml",
              "--musicnn", musicnn, "--cache-dir",
              tmp_path / "cache", "--vqvae-weights-dir", tiny_weights.codecs,
              "--generator-weights-dir",
              tiny_weights.generators, "--minutes", "0.1", "--output-dir",
              tmp_path, "--depths", "128"]
    assert cli.entry(main, [*map(str, shared), "--only", "chain,health",
                            "--runs", str(runs_dir)]) == 0
    text = (tmp_path / "RESULTS.md").read_text()
    assert "A word before." in text and "## songs" in text and "### The chain" in text and "### Codecs" not in text
    # A distance to other amounts of music does not answer to the same bound; and these models'
    # records name no tracks, so that what they make of fresh tracks is no proof.
    assert re.search(r"distance of the chain \| ≤ -1 \|  \| [\d.]+ \| missed \| [\d.]+ \| † \|",
                     text)
    assert "| distance, test tracks, 6 s to 19 s | verdict | distance, fresh tracks, 6 s to 9 s | verdict |" in text
    assert re.search(r"longest pause inside \| ≤ 99 s \|  \| 0 s \| must met \|  \|  \|", text)
    assert "Chosen by looking at the test tracks: nothing; the fresh tracks: nothing;" in text
    assert "| chain | distance, test tracks, 6 s to 19 s | distance, fresh tracks, 6 s to 9 s |" in text
    media = tmp_path / "docs" / "results" / "songs"
    assert {p.name for p in media.iterdir()} == {"generated_1.ogg", "generated_2.ogg",
                                                 "generated_3.ogg",
                                                 "generated.png", "codes.png",
                                                 "loudness.png", "training.png"}
    for file in media.iterdir():
        assert f"docs/results/songs/{file.name}" in text
        assert file.read_bytes().startswith(b"OggS" if file.suffix == ".ogg" else b"\x89PNG")
    said = capsys.readouterr().out
    assert f"wrote {tmp_path / 'RESULTS.md'}" in said and "codes.png" in said

    # The command it shows says what was measured, not where things lie on this machine.
    (shown,) = re.findall(r"python scripts/evaluate.py .*", text)
    assert "--only chain,health" in shown and "--musicnn" not in shown and str(tmp_path / "cache") not in shown
    # What is published stays, also where a run of some parts finds the others in the cache.
    assert cli.entry(main, [*map(str, shared), "--only", "health"]) == 0
    assert (tmp_path / "RESULTS.md").read_text() == text
    assert "only a whole run replaces them" in capsys.readouterr().err

    assert cli.entry(main, [*map(str, shared), "--only", "chain", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures) == {"overlap", "chain", "health", "fresh"}
    assert figures["chain"][0]["depth"] == 128

    # What is published stays as it is, whatever part of it is measured again.
    before = {p: p.read_bytes() for p in [tmp_path / "RESULTS.md", *media.iterdir()]}
    for more in (["--only", "chain"], ["--only", "chain", "--quick"],
                 ["--only", "chain", "--side", "validation"]):
        assert cli.entry(main, [*map(str, shared), *more]) == 0
        said = capsys.readouterr()
        assert "### The chain" in said.out and "wrote" not in said.out
        assert ("RESULTS.md keeps its figures of songs" in said.err) == ("validation" not in more)
    assert {p: p.read_bytes() for p in before} == before
    assert cli.entry(main, [*map(str, shared), "--only", "chain", "--targets",
                            str(tmp_path / "other.yml")]) == 0
    assert re.search(r"\| ≤ 1e\+06 \|  \| [\d.]+ \| must met \| [\d.]+ \| † \|",
                     capsys.readouterr().out)
    # Of another side alone too.
    assert cli.entry(main, [*map(str, shared), "--only", "chain", "--side", "fresh", "--targets",
                            str(tmp_path / "other.yml")]) == 0
    assert re.search(r"\| ≤ 1e\+06 \|  \| [\d.]+ \| † \|", capsys.readouterr().out)


def test_what_a_user_can_get_wrong_is_one_line(main, corpus, musicnn, tiny_weights,
                                               tmp_path, capsys):
    good = {"--data-dir": corpus / "songs", "--split": corpus / "split.yml", "--musicnn": musicnn,
            "--output-dir": tmp_path, "--cache-dir": tmp_path / "cache"}
    (tmp_path / "none.yml").write_text("validation: [a]\n")
    (tmp_path / "file").touch()
    for change, why in [
        ({"--split": tmp_path / "no.yml"}, "no.yml: no such file"),
        ({"--only": "codec"}, "no part of the evaluation"),
        ({"--split": tmp_path / "none.yml"}, "names no test "
                                             "track"), ({"--data-dir": tmp_path}, "manifest.jsonl"),
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
    codes = {x: [] for x in music.chain.sizes if x >= music.level}
    blocks = []
    with music.stream(seconds=600, seed=seed) as stream:
        for block in stream:
            blocks.append(block)
            for level in codes:
                codes[level].append(stream.codes[level])
    figures = health.vitals(np.concatenate(blocks),
                            {x: np.concatenate(c) for x, c in codes.items()}, RATE)
    # What ships pauses for up to 25 s where the music it learnt from ends; it neither ends nor
    # loops there.
    assert [a for a in health.ailments(figures) if not a.startswith("silent for")] == []
    # Also not by becoming another thing: neither much louder nor much quieter than it began.
    loudness = figures["loudness_db"]
    assert abs(np.median(loudness[-12:]) - np.median(loudness[:12])) < 15
