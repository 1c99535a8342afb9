"""Weights to ONNX graphs: what the graphs compute, their cache, and scripts/export.py."""

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import imported
import keras
import numpy as np
import onnxruntime
import pytest

from vqwave.export import export
from vqwave.generators import GeneratorConfig
from vqwave.generators.generator_layer import Generator
from vqwave.io import weights
from vqwave.play import engine

SCRIPT = Path(__file__).parents[2] / "scripts" / "export.py"


def small_set(folder, seed=0, units=6, books=1):
    config = GeneratorConfig(name="generator_512", level=512, num_codes=10, books=books,
                             core={"kind": "lstm", "embedding_dim": 3, "units": units,
                                   "head_dim": 4})
    keras.utils.set_random_seed(seed)
    folder.mkdir(parents=True, exist_ok=True)
    weights.save(folder, config.name, "", Generator(config).parts, config)
    return weights.find(folder, config.name)


@pytest.fixture
def small(tmp_path):
    return small_set(tmp_path / "weights")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("VQWAVE_CACHE", str(folder))
    return folder


def graphs(cache):
    return sorted((cache / "trained").glob("*.onnx"), key=lambda p: p.stat().st_mtime)


@pytest.mark.parametrize("damaged", ["graph", "checksum"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"torn")])
def test_a_damaged_graph_is_exported_again(small, cache, capsys, damaged, damage):
    good = export.cached_graph(small, "loop_int8")
    [graph] = graphs(cache)
    damage(graph if damaged == "graph" else graph.with_name(f"{graph.name}.sha256"))
    assert export.cached_graph(small, "loop_int8") == good
    assert capsys.readouterr().err.count("exporting") == 2


def test_other_weights_and_another_exporter_make_other_graphs(small, cache, tmp_path, monkeypatch):
    first = export.cached_graph(small, "loop_int8")
    assert export.cached_graph(small_set(tmp_path / "other", seed=1), "loop_int8") != first
    monkeypatch.setattr(export, "EXPORTER", "next")
    export.cached_graph(small, "loop_int8")
    assert len(graphs(cache)) == 3


def test_graphs_that_were_used_longest_ago_are_removed(cache, tmp_path, monkeypatch):
    """Reading counts as use, and what ships stays."""
    monkeypatch.setattr(export, "CHECKOUT", tmp_path / "checkout")
    sets = [small_set(tmp_path / "own" / str(seed), seed) for seed in range(4)]
    for i, weight_set in enumerate(sets[:3]):
        export.cached_graph(weight_set, "loop_int8")
        os.utime(graphs(cache)[-1], (i, i))
    oldest, second, third = graphs(cache)
    monkeypatch.setattr(export, "CACHE_BYTES", sum(p.stat().st_size for p in graphs(cache)) + 10)
    export.cached_graph(sets[0], "loop_int8")
    export.cached_graph(small_set(tmp_path / "checkout" / "weights", 9), "loop_int8")
    export.cached_graph(sets[3], "loop_int8")
    assert oldest.exists() and third.exists() and not second.exists()
    assert len(graphs(cache)) == 3 == len(list((cache / "trained").glob("*.sha256")))
    assert len(list(cache.glob("*.onnx"))) == 1


@pytest.fixture
def run(capfd, tiny_weights):
    return partial(imported.run, capfd, "export", "--vqvae-weights-dir", tiny_weights.codecs,
                   "--generator-weights-dir", tiny_weights.generators)


def test_the_script_writes_graphs_that_run_without_vqwave(run, tmp_path, cache):
    folder = tmp_path / "new" / "graphs"
    code, output, notes = run("--models", "vqvae_32, generator_128", "--output-dir", folder)
    assert code == 0
    names = ["vqvae_32_encode", "vqvae_32_decode", "vqvae_32_decode_part",
             "generator_128_context", "generator_128_loop_int8",
             "generator_128_loop_full_int8", "generator_128_loop_many_int8"]
    assert output.splitlines() == [f"wrote {folder / name}.onnx" for name in names]
    # Warnings of TensorFlow and tf2onnx do not reach the user.
    assert all(line.startswith(("exporting ", "vqvae_32: ", "generator_128: "))
               for line in notes.splitlines())
    for batch, length in ((1, 7), (3, 50)):
        for name, array, output_name, shape in (
            ("vqvae_32_encode", np.zeros((batch, 32 * length), np.float32), "codes",
             (batch, length, 1)),
            ("vqvae_32_decode", np.zeros((batch, length, 1), np.int32), "samples",
             (batch, 32 * length)),
            ("generator_128_context", np.zeros((batch, length + 14, 1), np.int32), "context",
             (batch, 4 * length, 12)),
        ):
            session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
            [x], [y] = session.get_inputs(), session.get_outputs()
            assert x.shape == ["B", x.name, 1][: array.ndim]
            assert y.shape == ["B", output_name, shape[-1]][: len(shape)]
            assert session.run([output_name], {x.name: array})[0].shape == shape


def test_the_program_in_the_docs_makes_music(run, cache, tmp_path):
    text = (SCRIPT.parents[1] / "docs" / "onnx.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    models = "vqvae_128,generator_512,generator_128"
    assert run("--models", models, "--output-dir", tmp_path)[0] == 0
    subprocess.run([sys.executable, "-W", "error", "-c", program, tmp_path, "0.5",
                    tmp_path / "out.raw"], check=True)  # noqa: S603
    samples = np.fromfile(tmp_path / "out.raw", "<i2")
    assert len(samples) == 22 * 512 and samples.std() > 0


def test_metadata_hold_the_numbers_that_a_player_needs(tiny_weights, cache):
    def metadata(weight_set, kind):
        graph = onnxruntime.InferenceSession(export.cached_graph(weight_set, kind))
        return graph.get_modelmeta().custom_metadata_map

    generator = weights.find(tiny_weights.generators, "generator_128")
    expected = {"level": "128", "source_level": "512", "ratio": "4", "halo": "7",
                "num_codes": "64", "books": "1", "start_token": "64", "pad_token": "64"}
    for kind in ("loop_int8", "context"):
        assert metadata(generator, kind) == expected
    codec = engine.CodecEngine(weights.find(tiny_weights.codecs, "vqvae_128"))
    for kind in ("encode", "decode"):
        assert metadata(codec.weight_set, kind) == {
            "level": "128", "num_codes": "64", "books": "1", "sample_rate": "22050",
            "encode_halo": str(codec.encode_halo), "decode_halo": str(codec.decode_halo),
            "decode_past": str(codec.decode_past),
            "period": "8192",
            "latency": str(round(codec.latency * codec.config.sample_rate))}
