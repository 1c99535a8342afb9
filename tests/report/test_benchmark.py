import json

import imported
import pytest

from vqwave import cli
from vqwave.presets import load_preset
from vqwave.report import benchmark

CHAIN = load_preset("tiny").chain
LEVELS, RATE = CHAIN.sizes, CHAIN.sample_rate
TINY = benchmark.Effort(rounds=2, stream_rounds=2, stream_turn=0.001, starts=1,
                        minutes=(0.01, 0.02), seconds=0.2, streams=(1, 2), changes=1)


@pytest.fixture(scope="module")
def main():
    return imported.script("benchmark").main


@pytest.fixture(scope="module")
def results(tiny_weights):
    parts = [name for name in benchmark.BENCHMARKS if name not in ("studio", "page")]  # minutes in a real browser
    return benchmark.run(parts, tiny_weights.codecs, tiny_weights.generators, TINY)


def test_the_benchmark_measures_the_decoded_level(results):
    assert [(r["level"], r["streams"]) for r in results["stream"]] == [(8, 1), (8, 2)]
    for row in results["stream"]:
        assert row["rtf"] > 0 and len(row["rtf_rounds"]) == 2
        assert row["blocks"] % (2 * 4) == 0  # one run of the context of 128x is for four blocks
        assert 0 < row["block_median_s"] <= row["block_p95_s"]
        assert row["p95_share"] == pytest.approx(row["block_p95_s"] * RATE / CHAIN.block)
    assert [r["level"] for r in results["codecs"]] == list(LEVELS)
    assert all(r["encode_rtf"] > 0 and r["decode_rtf"] > 0 for r in results["codecs"])
    (start,) = results["start"]
    assert 0 < start["warm_first_block_s"] <= start["warm_sound_s"]
    assert 0 < start["cold_first_block_s"] <= start["cold_sound_s"]
    (memory,) = results["memory"]
    assert memory["minutes"] == [0.01, 0.02] and min(memory["peak_bytes"]) > 1 << 20
    assert memory["growth_bytes"] == memory["peak_bytes"][1] - memory["peak_bytes"][0] >= 0


def test_the_command_prints_a_table_and_writes_json(main, tiny_weights, tmp_path, capsys):
    out = tmp_path / "out.json"
    assert cli.entry(main, ["--part", "codecs", "--quick", "--json", str(out),
                            "--vqvae-weights-dir", str(tiny_weights.codecs),
                            "--generator-weights-dir", str(tiny_weights.generators)]) == 0
    results, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert [row["level"] for row in results["codecs"]] == list(LEVELS) and "stream" not in results
    assert set(results["checksums"]) == set(CHAIN.names)
    assert results["machine"]["cpu"] in printed and benchmark.BENCHMARKS["codecs"].title in printed
