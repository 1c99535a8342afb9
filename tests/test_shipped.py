"""The weights that ship: whole, small, and alive."""

import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

import vqwave
from vqwave import config, weights
from vqwave.measure import evaluation

ROOT = Path(__file__).parent.parent
CODECS, GENERATORS = ROOT / "final_weights", ROOT / "weights"


def dtypes(path):
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: found.append(item.dtype) if isinstance(item, h5py.Dataset) else None)
    return found


@pytest.mark.parametrize("level", config.LEVELS)
def test_every_level_ships_whole_and_in_half_precision(level):
    for folder, name in ((CODECS, config.codec_name(level)), (GENERATORS, config.generator_name(level))):
        found = weights.find(folder, name)
        assert found.tag == ""
        for part, path in found.files.items():
            assert set(dtypes(path)) == {np.dtype("float16")}, path
            assert all(np.isfinite(a).all() for a in found.load(part).values()), path


def test_generators_were_trained_on_the_codecs_that_ship():
    for level in config.LEVELS:
        trained_on = weights.find(GENERATORS, config.generator_name(level)).info["codecs"]
        for name, identity in trained_on.items():
            assert weights.find(CODECS, name).codes_id == identity


def test_the_chain_ends_at_a_level_that_ships():
    assert weights.chain_level(GENERATORS) in config.LEVELS


def test_weights_and_checkout_stay_small():
    sets = [weights.find(CODECS, config.codec_name(x)) for x in config.LEVELS]
    sets += [weights.find(GENERATORS, config.generator_name(x)) for x in config.LEVELS]
    assert sum(p.stat().st_size for s in sets for p in s.files.values()) <= 48 << 20
    if not (ROOT / ".git").exists():
        pytest.skip("no git here to say what belongs to the checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    tracked = [ROOT / name.decode() for name in listed if name]
    assert sum(p.stat().st_size for p in tracked if p.exists()) < 64 << 20


@pytest.mark.large
@pytest.mark.parametrize("seed", range(1, 5))
def test_ten_minutes_neither_die_nor_blow_up_nor_loop(seed):
    parts, codes = [], {}
    stream = vqwave.load().stream(seed=seed)
    for block in stream:
        parts.append(block)
        for level, made in stream.codes.items():
            codes.setdefault(level, []).append(made)
        if sum(map(len, parts)) >= 600 * config.SAMPLE_RATE:
            break
    figures = evaluation.vitals(np.concatenate(parts), {x: np.concatenate(c) for x, c in codes.items()})
    assert evaluation.ailments(figures) == []
