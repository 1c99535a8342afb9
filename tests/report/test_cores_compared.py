"""report/cores.py and `benchmark --cores`: generators of the same codes in one table; and ten
minutes of each core and label in the memory of one. Nothing here depends on how fast anything is.
"""

import json
from dataclasses import replace

import imported
import keras
import pytest
from prepared import data_folder, music

from vqwave import cli
from vqwave import config as configs
from vqwave.config import preset
from vqwave.io import weights
from vqwave.nn.generator import Generator
from vqwave.onnx import export
from vqwave.report import benchmark, cores

TINY = benchmark.Effort(rounds=1, turn=0.001, starts=1, minutes=(0.01, 0.02), codes=64,
                        streams=(1, 2))
CORES = {
    "lstm": {"kind": "lstm", "units": 24},
    "wavenet": {"kind": "wavenet", "channels": 12, "skip_channels": 16, "dilations": [1, 2, 4]},
    "transformer": {"kind": "transformer", "width": 16, "heads": 2, "layers": 2, "hidden_dim": 16,
                    "window": 64},
    "pixelcnn": {"kind": "pixelcnn", "channels": 12, "dilations": [1, 2, 4]},
}
LABELS = ("calm", "battle")


def save_generator(folder, core, labelled=False):
    """Random weights of the tiny top generator with another core; its config."""
    conditions = [{"kind": "labels", "names": LABELS, "channels": 8}] if labelled else []
    config = configs.replace(preset("tiny").generator(512), core=core, conditions=conditions)
    folder.mkdir()
    keras.utils.set_random_seed(0)
    model = Generator(config)
    weights.save(folder, config.name, "", model.parts, config, record={"step": 7})
    return sum(v.shape.num_elements() for part in model.parts.values() for v in part)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    data_folder(folder, {name: music(4.0, i) for i, name in enumerate("ab")})
    return folder


@pytest.fixture
def folder(tmp_path):
    """A preset for each of two cores, and their weights: (folder, {preset: parameters})."""
    counts = {}
    for kind in ("lstm", "wavenet"):
        path = tmp_path / f"{kind}.yml"
        path.write_text(configs.dump_yaml({
            "base": "tiny", "generators": {"generator_512": {"core": CORES[kind]}}}))
        counts[str(path)] = save_generator(tmp_path / kind, CORES[kind])
    return tmp_path, counts


def test_generators_of_the_same_codes_stand_in_one_table(folder, data, tiny_weights):
    trained, counts = folder
    told = []
    rows = cores.compare(list(counts), tiny_weights.codecs, trained, data, 0.5, TINY,
                         lambda *what: told.append(what))
    assert [row["core"] for row in rows] == ["lstm", "wavenet"]
    assert {row["preset"]: row["parameters"] for row in rows} == counts
    for row in rows:
        assert row["trained_steps"] == 7 and row["bits"] == pytest.approx(6, abs=0.5)
        assert set(row["codes_per_s"]) == {"1", "2"} and min(row["codes_per_s"].values()) > 0
        assert row["peak_bytes"][1] - row["peak_bytes"][0] == row["growth_bytes"] >= 0
        assert min(row["warm_first_block_s"], row["cold_sound_s"]) > 0
    assert [row["state_bytes"] for row in rows] == [4 * 4 * 24, 4 * 12 * (1 + 2 + 4)]
    assert told[0][:2] == (0, 2) and told[-1] == (2, 2, "done")
    head, _, *lines = cores.markdown(rows).splitlines()
    assert "| codes/s, 1 | codes/s, 2 | a stream remembers |" in head and len(lines) == 2
    assert f"| lstm | 0.0 million | 7 | {rows[0]['bits']:.3f} |" in lines[0]
    # A folder remembers that it is a chain of one level.
    assert weights.chain(trained / "lstm").sizes == (512,)


def test_the_command_compares_and_says_what_it_lacks(folder, data, tiny_weights, tmp_path, capsys, monkeypatch):
    trained, counts = folder
    monkeypatch.setattr(benchmark, "QUICK", TINY)
    main = imported.script("benchmark").main
    command = ["--cores", str(trained), "--sizes", list(counts)[0], "--quick", "--json",
               "--vqvae-weights-dir", str(tiny_weights.codecs)]
    assert cli.entry(main, command) == 2
    assert "--cores needs prepared music to predict: --data-dir" in capsys.readouterr().err
    command += ["--data-dir", str(data), "--val-split", "0.5"]
    assert cli.entry(main, command) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["core"] == "lstm"
    shown = tmp_path / "docs" / "benchmark"
    shown.mkdir(parents=True)
    page = shown.parent / "performance.md"
    page.write_text("Before.\n<!-- benchmark.py --cores: a -->\nold\n<!-- benchmark.py --cores: a, end -->\nAfter.\n")
    assert cli.entry(main, [*command, "--table", "a", "--output-dir", str(shown)]) == 0
    assert json.loads((shown / "cores_a.json").read_text())["rows"][0]["core"] == "lstm"
    text = page.read_text()
    assert "| lstm | 0.0 million | 7 |" in text and "old" not in text and text.endswith("end -->\nAfter.\n")
    assert cli.entry(main, ["--table", "a"]) == 2
    assert cli.entry(main, [*command, "--sizes", "tiny"]) == 2
    assert "no weights of generator_512" in capsys.readouterr().err


@pytest.mark.large
@pytest.mark.parametrize("core", CORES)
def test_ten_minutes_of_labels_in_turn_take_the_memory_of_one(core, tiny_weights, tmp_path):
    folder = tmp_path / core
    save_generator(folder, CORES[core], labelled=True)
    chain = preset("tiny").chain
    alone = configs.replace(chain, levels=[configs.to_dict(chain.levels[0])], end=None)
    weights.save_chain(folder, alone)
    made = benchmark.ChainWeights(core, alone, tiny_weights.codecs, folder, {}, None)
    for one in (made.generator_weights(512), made.codec_weights(512)):
        for kind in export.kinds(one, "onnx"):
            export.cached_graph(one, kind)
    (row,) = benchmark.remember(made, 512, replace(TINY, minutes=(1, 10)))
    assert row["minutes"] == [1, 10]
    # Whole ones: below that an allocator's habits are all there is to see.
    assert round(row["growth_bytes"] / (1 << 20)) == 0
