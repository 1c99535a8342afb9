"""scripts/benchmark.py on tiny weights: that it measures what it says. Nothing here depends on how
fast anything is.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import imported
import numpy as np
import pytest

import vqwave
from vqwave import cli, config, machine, plots
from vqwave.config import SHIPPED, preset
from vqwave.errors import UserError
from vqwave.io import audio, manifest, weights
from vqwave.onnx import loops
from vqwave.play import api, engine, playback
from vqwave.report import benchmark, scoring

CHAIN = preset("tiny").chain
LEVELS, RATE = CHAIN.sizes, CHAIN.sample_rate
TINY = benchmark.Effort(rounds=2, turn=0.001, chain_rounds=2, chain_turn=0.001,
                        starts=1, minutes=(0.01, 0.02),
                        bandwidth_bytes=1 << 16, codes=128, seconds=0.2, streams=(1, 2), controls=1)


@pytest.fixture(scope="module")
def main():
    return imported.script("benchmark").main


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A data folder of two tracks, ten seconds each."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    tracks = []
    for name in ("a", "b"):
        samples = audio.to_u16(0.1 * rng.standard_normal(10 * RATE))
        samples.astype("<u2").tofile(folder / f"{name}.u16")
        tracks.append(manifest.Track(f"{name}.u16", f"/music/{name}.wav",
                                     RATE, len(samples), "0" * 64,
                                     dict.fromkeys(manifest.TAGS)))
    manifest.write(folder, tracks)
    return folder


@pytest.fixture(scope="module")
def results(tiny_weights, music):
    return benchmark.run(["tiny"], tiny_weights.codecs, tiny_weights.generators,
                         effort=TINY, data_dir=music,
                         val_split=0.5)


@pytest.fixture(scope="module")
def chain(tiny_weights):
    return benchmark.choose(preset("tiny"), tiny_weights.codecs, tiny_weights.generators, None)


def test_every_level_engine_and_number_of_streams_is_measured(results):
    wanted = {(level, n, name) for level in LEVELS for n in TINY.streams
              for name in (*engine.ENGINES, "eager")}
    rows = {(r["level"], r["streams"], r["engine"]): r for r in results["steps"]}
    assert rows.keys() == wanted and len(results["steps"]) == len(wanted)
    for (level, streams, name), row in rows.items():
        assert row["codes_per_s"] == row["steps_per_s"] * streams > 0
        assert row["real_time"] == pytest.approx(row["codes_per_s"] / (RATE / level))
        assert row["against_eager"] > 0 and row["share_of_bandwidth"] > 0
        assert name != "eager" or row["against_eager"] == 1


def test_the_chain_its_start_its_codecs_and_its_memory_are_measured(results):
    assert [(r["level"], r["streams"], r["ending"], r["whole"]) for r in results["chain"]] == [
        (8, 1, True, True), (8, 2, True, True)]
    for row in results["chain"]:
        assert row["rtf"] > 0 and len(row["rtf_rounds"]) == 2
        assert row["blocks"] % (2 * 4) == 0  # a run of the context of 128x serves four blocks
        assert 0 < row["block_median_s"] <= row["block_p95_s"]
        assert row["p95_share"] == pytest.approx(row["block_p95_s"] * RATE / CHAIN.block)
    assert [r["level"] for r in results["codecs"]] == list(LEVELS)
    assert all(r["encode_rtf"] > 0 and r["decode_rtf"] > 0 for r in results["codecs"])
    (start,) = results["start"]
    assert start["level"] == results["memory"][0]["level"] == 8
    assert 0 < start["warm_first_block_s"] <= start["warm_sound_s"]
    assert 0 < start["cold_first_block_s"] <= start["cold_sound_s"]
    (memory,) = results["memory"]
    assert memory["minutes"] == [0.01, 0.02] and all(peak > 1 << 20
                                                     for peak in memory["peak_bytes"])
    assert memory["growth_bytes"] == memory["peak_bytes"][1] - memory["peak_bytes"][0] >= 0
    assert min(results["bandwidth"][0].values()) > 0


def test_int8_is_compared_with_float32_on_held_out_codes(results):
    rows = results["accuracy"]
    assert [r["level"] for r in rows] == list(LEVELS)
    for row in rows:
        assert row["codes"] >= 128 and row["weights"] == "trained"
        # Random weights hold about every code for equally likely.
        assert row["bits_float32"] == pytest.approx(6, abs=0.5)
        assert row["difference_int8"] == pytest.approx(row["bits_int8"] - row["bits_float32"])
        assert 0 < abs(row["difference_int8"]) < 0.05


def test_the_codes_and_the_source_codes_of_held_out_music_belong_together(chain, music):
    """The level above, around the same samples: what lies between the halos is what it makes of
    them alone.
    """
    track = manifest.read(music)[0]
    c = chain.generator_weights(8).config
    codec, source = (engine.load_codec(chain.codec_weights(level)) for level in (8, 32))
    span = benchmark._cut_held_out(track, music, codec, source, c, 400)
    codes, above = scoring.read_spans([span], 1), scoring.window_above(c.source, c, [span])
    assert codes.shape == (1, 400, 1) and above.shape == (400 // c.ratio + 2 * c.halo, 1)
    samples = audio.from_u16(np.fromfile(music / track.file, "<u2"))
    first = (len(samples) - 400 * 8 - 2 * c.halo * 32) // 2 + c.halo * 32
    assert span.track.start + span.start * 8 == first
    for made, encoder in ((codes[0], codec), (above[c.halo : -c.halo], source)):
        inner = encoder.encode(samples[None, first - 3200 : first + 6400])[0]
        np.testing.assert_array_equal(made, inner[len(inner) // 3 : -len(inner) // 3])


def test_the_eager_loop_draws_the_codes_that_the_engines_draw(chain):
    from vqwave.nn.generator import load_generator

    found = chain.generator_weights(32)
    model, reference = load_generator(found), engine.load_generator(found, "onnx-float32")
    eager = benchmark.eager_sampler(model, 2)
    drawn = []
    step = model.core.step
    model.core.step = lambda previous, *rest: (drawn.append(previous), step(previous, *rest))[1]
    eager(33)
    context, draws = benchmark._inputs(found.config, 2)
    start = np.full((2, 1), found.config.start_token, np.int32)
    codes, _, _ = reference.sample(context[:, :33], draws[:, :33], start,
                                   reference.initial_state(2))
    np.testing.assert_array_equal(np.stack(drawn[1:], axis=1), codes[:, :32])


def test_contenders_take_turns_and_rates_are_steps_a_second(monkeypatch):
    """With a clock that only the contenders move, rates are exact whatever the machine does."""
    clock, order = [0.0], []
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock[0])

    def contender(name, seconds):
        def steps(n):
            assert n <= benchmark.MOST_STEPS
            order.append(name)
            clock[0] += n * seconds

        return steps

    rates = benchmark.race({"a": contender("a", 0.001), "b": contender("b", 0.01)},
                           rounds=3, turn=0.1)
    assert rates["a"] == pytest.approx([1000] * 3) and rates["b"] == pytest.approx([100] * 3)
    turns = [name for i, name in enumerate(order[6:]) if not i or order[6:][i - 1] != name]
    assert turns == ["a", "b"] * 3


def test_a_step_reads_every_matrix_of_the_core_once(chain):
    found = chain.generator_weights(8)
    config, c = found.config, found.config.core
    first, rest = c.embedding_dim + config.context_channels + c.units, 2 * c.units
    count = 4 * c.units * (first + rest * (c.layers - 1)) + c.units * config.num_codes
    row = 4 * c.embedding_dim
    read = loops.LOOPS[type(c)].bytes_per_step(config, found.load("generator"))
    assert (read["int8"], read["float32"]) == (count + row, 4 * count + row)


def full_results(rtf, p95, cold, ratio, growth, difference, heeded=50.0, held=0.5):
    return {
        "latency": [{"size": SHIPPED, "level": 8, "ending": True, "latency": "low",
                     "most_ms": heeded, "underruns": int(heeded > 200)}],
        "pull": [{"size": SHIPPED, "level": 8, "ending": True, "before": 0.2, "held": held,
                  "released": 0.2}],
        "chain": [{
            "size": size, "streams": n, "rtf": rtf, "p95_share": p95, "whole": whole,
            "level": 8 if whole else 128
        } for n in (1, 32) for whole in (True, False) for size in (SHIPPED, "reference")],
        "start": [{"size": SHIPPED, "cold_sound_s": cold, "whole": True, "level": 8}],
        "steps": [{"size": size, "streams": 1, "engine": "onnx", "against_eager": r}
                  for r in (ratio, 1000)
                  for size in (SHIPPED, "reference")],
        "memory": [{"minutes": [1, 10], "growth_bytes": growth}],
        "accuracy": [{"weights": "trained", "difference_int8": d}
                     for d in (difference, -1.0)],
    }


def verdicts(results):
    return [target["verdict"] for target in benchmark.judge(results)]


def test_targets_are_judged_by_the_worst_figure():
    def of(*figures, **more):
        """Verdicts by the target's name, without the held triad's, which has no aim."""
        found = dict(zip((target.what for target in benchmark.TARGETS),
                         verdicts(full_results(*figures, **more)), strict=True))
        return found.pop("a held triad's share of energy, over that before"), list(found.values())

    assert of(30, 0.19, 1.1, 100, 0, 0.02) == ("must met", ["aim met"] * (len(benchmark.TARGETS) - 1))
    pulled, rest = of(0.1, 0.4, 2.5, 49, 2 << 20, 0.021, heeded=201.0, held=0.3)
    assert {pulled, *rest} == {"missed"}
    middle = of(15, 0.2, 1.2, 99, 1000, 0.02, heeded=150.0)[1]
    assert middle == ["aim met", "aim met", *["must met"] * 4, "aim met", *["must met"] * 2,
                      *["aim met"] * 2]
    nothing = of(math.nan, math.nan, math.nan, math.nan, 1 << 30, math.nan, heeded=math.nan)[1]
    assert set(nothing) - {"aim met"} == {"missed"}


def test_what_was_not_measured_is_not_met():
    assert set(verdicts({})) == {"not measured"}
    short = {"memory": [{"minutes": [0.1, 0.5], "growth_bytes": 0}]}
    random = {"accuracy": [{"weights": "random", "difference_int8": 0.0}]}
    assert set(verdicts(short | random)) == {"not measured"}


def test_trained_weights_serve_the_size_they_are_of_and_random_ones_the_others(tiny_weights,
                                                                               tmp_path):
    tiny = preset("tiny")
    wanted = [tiny.generator(level) for level in LEVELS]
    folder = tmp_path / "other"
    folder.mkdir()
    for c in wanted:
        found = weights.find(tiny_weights.generators, c.name)
        weights.copy_set(found, folder, "")
    weights.save_chain(folder, config.replace(tiny.chain, end=128))
    chosen = benchmark.choose(tiny, tiny_weights.codecs, folder, tmp_path)
    assert chosen.endings == [128, 8]
    assert chosen.checksums["vqvae_32"] == weights.find(tiny_weights.codecs,
                                                        "vqvae_32").checksum[:16]
    assert chosen.source == {"codecs": str(tiny_weights.codecs),
                             "generators": str(folder)} and chosen.cache is None
    weights.weights_path(folder, "generator_8", "context").write_bytes(b"torn")
    with pytest.raises(UserError, match="damaged"):
        benchmark.choose(tiny, tiny_weights.codecs, folder, tmp_path)
    random = benchmark.choose(tiny, tmp_path / "none", tmp_path / "none", tmp_path)
    assert random.source == {"codecs": "random", "generators": "random"}
    assert random.generator_weights(8).config == wanted[-1] and random.codec_weights(512).config.num_codes == 64
    before = os.environ["VQWAVE_CACHE"]
    with random.active():
        assert os.environ["VQWAVE_CACHE"] == str(random.cache) and random.cache.is_relative_to(tmp_path)
    assert os.environ["VQWAVE_CACHE"] == before


def test_the_command_prints_json_alone_and_writes_files(main, tiny_weights,
                                                        tmp_path, capsys, monkeypatch):
    out = tmp_path / "new" / "folder"
    generators = tmp_path / "weights"
    shutil.copytree(tiny_weights.generators, generators)
    weights.save_chain(generators, config.replace(CHAIN, end=128))
    # Of a cache that holds nothing yet.
    monkeypatch.setenv("VQWAVE_CACHE", str(tmp_path / "cache"))
    arguments = ["--sizes", "tiny", "--only", "chain", "--quick", "--json",
                 "--output-dir", str(out),
                 "--vqvae-weights-dir", str(tiny_weights.codecs), "--generator-weights-dir",
                 str(generators)]
    assert cli.entry(main, arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "results.json").read_text())
    # The chain to where it ends by itself, and the whole of it.
    assert [(r["level"], r["streams"], r["ending"], r["whole"]) for r in printed["chain"]] == [
        *((128, n, True, False) for n in (1, 8, 32)), *((8, n, False, True) for n in (1, 8, 32))]
    assert printed["quick"] and "steps" not in printed
    assert printed["weights"]["tiny"]["ending"] == 128
    assert set(printed["weights"]["tiny"]["checksums"]) == set(CHAIN.names)
    assert sorted(p.name for p in out.iterdir()) == ["report.txt", "results.json", "speed.png"]
    report = (out / "report.txt").read_text()
    assert printed["machine"]["cpu"] in report and "The chain" in report
    assert printed["weights"]["tiny"]["checksums"]["vqvae_8"] in report and "steps: not measured" in report


@pytest.mark.parametrize("arguments, said", [
    (["--sizes", "huge"], "no preset is called 'huge'"),
    (["--only", "chain,tea"], "no part of the benchmark is called 'tea'"),
    (["--data-dir", "/nowhere"], "/nowhere"),
])
def test_mistakes_are_one_line(main, capsys, tmp_path, arguments, said):
    assert cli.entry(main, [*arguments, "--output-dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_tables_and_picture_show_whatever_there_is(results, tmp_path):
    written = benchmark.write(results, tmp_path)
    text = written[1].read_text()
    for row in results["targets"]:
        assert row["what"] in text and row["verdict"] in text
    assert "eager" in text and "onnx-float32" in text and max(map(len, text.splitlines())) <= 400
    assert written[2].read_bytes().startswith(b"\x89PNG")
    for part in ("steps", "chain"):
        only = {key: value for key, value in results.items()
                if key not in {"steps", "chain"} - {part}}
        assert plots.speeds(only, tmp_path / f"{part}.svg")
    two = {**results, "chain": results["chain"] + [{**r, "size": "other"}
                                                   for r in results["chain"]]}
    assert plots.speeds(two, tmp_path / "two.png")
    assert not plots.speeds({},
                            tmp_path / "nothing.png") and not (tmp_path / "nothing.png").exists()


def test_the_work_of_a_stream_repeats_after_the_runs_of_all_its_contexts(tiny_weights):
    with api.load(tiny_weights.codecs, tiny_weights.generators).stream(level=8, seed=0) as stream:
        assert [level.group for level in stream._chain.levels] == [1, 4, 1, 1]
        assert benchmark.count_cycle(stream) == 4
        stream._chain.levels[3].group = 6
        assert benchmark.count_cycle(stream) == 12
    with api.load(tiny_weights.codecs, tiny_weights.generators).stream(level=512, seed=0) as stream:
        assert benchmark.count_cycle(stream) == 1


def test_the_page_has_the_tables_of_the_results_beside_it():
    """`python scripts/benchmark.py` with --data-dir and --val-split writes both."""
    docs = Path(__file__).parents[2] / "docs"
    page = (docs / "performance.md").read_text()
    published = json.loads((docs / "benchmark" / "results.json").read_text())
    assert benchmark.insert(page, benchmark.markdown(published)) == page
    for target in published["targets"]:
        assert f"| {target['what']} | {target['measured']:.3g}" in page


@pytest.fixture
def published(tmp_path):
    """A folder of results, of sizes that nobody measures any more, which a page shows."""
    folder = tmp_path / "docs" / "benchmark"
    folder.mkdir(parents=True)
    (folder.parent / "performance.md").write_text(
        "By hand.\n\n<!-- benchmark.py -->\nlast year\n<!-- benchmark.py: end -->\n\nAnd this.\n")
    there = {"weights": {"of old": {}}, **{part: [{}] for part in benchmark.PARTS}}
    (folder / "results.json").write_text(json.dumps(there))
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_whole_run_replaces_the_tables_of_a_page(results, published):
    page = published.parent / "performance.md"
    whole = results | {"quick": False, "lacks": []}
    assert benchmark.write(whole, published)[-1] == page
    assert json.loads((published / "results.json").read_text()) == whole
    text = page.read_text()
    assert text.startswith("By hand.") and text.endswith("And this.\n") and "last year" not in text
    # Weights by their checksums; what plays, at every level; the chain beside the eager loop.
    assert all(f"{name} `{checksum}`" in text
               for name, checksum in whole["weights"]["tiny"]["checksums"].items())
    assert len([line for line in text.splitlines()
                if "| onnx |" in line]) == len(LEVELS) * len(TINY.streams)
    ratio = text.split("**One stream of the whole chain")[1].splitlines()[4]
    eager = [r["real_time"] for r in results["steps"]
             if (r["engine"], r["streams"]) == ("eager", 1)]
    rtf = results["chain"][0]["rtf"]
    assert float(ratio.split("|")[4]) == pytest.approx(rtf * sum(1 / x for x in eager), abs=0.06)
    with pytest.raises(UserError, match="has no <!-- benchmark.py -->"):
        benchmark.insert("no markers", "x")


def test_a_run_that_is_not_whole_replaces_nothing_and_is_kept(results, published, tmp_path):
    before = contents(tmp_path)
    assert results["lacks"]  # of tiny weights, and quick
    written = benchmark.write(results, published)
    place = published / "partial"
    assert {path.parent for path in written} == {place}
    assert json.loads((place / "results.json").read_text()) == results
    assert before.items() <= contents(tmp_path).items()
    # Where no page shows what is there, whatever was measured.
    assert {path.parent for path in benchmark.write(results, tmp_path / "mine")} == {tmp_path / "mine"}


def test_a_run_is_whole_with_every_part_and_the_sizes_that_the_command_measures():
    sizes, parts = list(benchmark.SIZES), list(benchmark.PARTS)

    def lacks(sizes=sizes, parts=parts, effort=benchmark.FULL, data_dir="data"):
        return benchmark.find_lacks(sizes, parts, effort, data_dir)

    assert lacks() == lacks(sizes=["tiny", *reversed(sizes)]) == []
    assert lacks(sizes=["tiny", SHIPPED]) == ["size reference"]
    assert lacks(parts=parts[1:]) == [f"part {parts[0]}"]
    assert lacks(data_dir=None) == ["music for accuracy (--data-dir)"]
    assert lacks(effort=benchmark.QUICK) == ["the rounds that --quick leaves out"]
    assert lacks([], [], TINY) == [*lacks(effort=TINY), *lacks(sizes=[]), *lacks(parts=[])]


@pytest.mark.parametrize("less, said", [
    ([], "music for accuracy (--data-dir)"),
    (["--data-dir", "data", "--only", ",".join(benchmark.PARTS[1:])], f"part {benchmark.PARTS[0]}"),
    (["--data-dir", "data", "--sizes", "reference"], f"size {SHIPPED}"),
    (["--data-dir", "data"], None),
])
def test_the_command_says_before_it_measures_whether_it_will_replace_the_published(
        main, results, published, capsys, monkeypatch, less, said):
    before = contents(published)

    def run(sizes, codecs, generators, parts, effort, *, data_dir, **options):
        told, place = capsys.readouterr().err, published / "partial"
        assert place.is_dir() == bool(said)
        assert told == (f"{published} keeps its figures: this run lacks {said}; its own go to "
                        f"{place}\n" if said else "")
        return results | {"lacks": benchmark.find_lacks(sizes, parts, effort, data_dir)}

    monkeypatch.setattr(benchmark, "run", run)
    assert cli.entry(main, [*less, "--output-dir", str(published)]) == 0
    where = published / "partial" if said else published
    assert f"wrote {where / 'results.json'}" in capsys.readouterr().out.replace("\n", "")
    assert (before.items() <= contents(published).items()) == bool(said)
    assert json.loads((where / "results.json").read_text())["weights"] == results["weights"]


def test_a_process_that_fails_says_why(chain, tmp_path):
    gone = replace(chain, generators=tmp_path)
    with pytest.raises(RuntimeError, match="no weights of generator_512"):
        benchmark.start(gone, 8, TINY)


def test_the_machine_is_described():
    it = machine.describe()
    assert it["cpu"] and it["cores"] >= 1 and it["memory_bytes"] > 1 << 28 and it["os"]
    assert it["python"] == sys.version.split()[0] and it["versions"]["numpy"] == np.__version__
    json.dumps(it)


def test_resident_memory_is_what_the_process_holds():
    before = machine.memory_use()
    assert 0 < before["now"] <= before["peak"]
    held = np.ones(16 << 20, np.uint8)
    assert machine.memory_use()["peak"] >= before["now"] + held.nbytes // 2


def test_importing_it_imports_no_framework():
    program = "import sys, vqwave.report.benchmark as _; "
    program += "print({'keras', 'tensorflow', 'matplotlib'} & set(sys.modules) or 'none')"
    done = subprocess.run([sys.executable, "-W", "error", "-c", program],
                          capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": str(Path(vqwave.__file__).parents[1])})
    assert done.stdout == "none\n"


class Changing:
    """Blocks of noise, silent from the block on that is made after `stop`, and loud after `go`."""

    def __init__(self, expected, block):
        self.expected, self.block, self.made, self.gain, self.changes = expected, block, 0, 1.0, []

    def change(self, gain):
        self.gain = gain

    def __iter__(self):
        return self

    def __next__(self):
        first = self.made * self.block
        if first >= len(self.expected):
            raise StopIteration
        if self.gain != (self.changes[-1][1] if self.changes else 1.0):
            self.changes.append((first, self.gain))
        self.made += 1
        return self.gain * self.expected[first : first + self.block]


def test_the_sample_that_first_heeds_a_control_is_found():
    expected = np.random.default_rng(0).normal(0, 0.1, 60 * 512).astype(np.float32)
    blocks = Changing(expected, 512)
    feed = playback.Feed(blocks, RATE, buffer=0.05, prebuffer=0.01)
    feed.start()
    sink = benchmark.Sink(feed, expected, 256)
    sink.skip(0.1)
    for gain in (0.0, 1.0, 0.0):
        asked = time.perf_counter()
        blocks.change(gain)
        heard = sink.heed()
        assert sink.heeded == blocks.changes[-1][0] and blocks.changes[-1][1] == gain
        assert heard > asked
    with pytest.raises(RuntimeError, match="ended before"):
        sink.heed()
    feed.close()


def test_held_notes_are_judged_where_the_chain_ends():
    def judged(*rows):
        return {t["what"]: t for t in benchmark.judge({"pull": rows})}[
            "a held triad's share of energy, over that before"]

    row = {"size": SHIPPED, "level": 128, "ending": True, "before": 0.2, "held": 0.5, "released": 0.2}
    assert judged(row)["measured"] == pytest.approx(2.5) and judged(row)["verdict"] == "must met"
    assert judged(row | {"held": 0.3})["verdict"] == "missed"
    assert judged(row | {"ending": False})["verdict"] == judged()["verdict"] == "not measured"
