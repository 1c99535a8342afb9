"""The weights that ship: whole, small, and alive."""

import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from research.evaluators.health import find_repeats, is_faulty

import vqwave
from vqwave.codecs import LossConfig
from vqwave.errors import UserError
from vqwave.export import export, packing
from vqwave.io import weights
from vqwave.levels import replace
from vqwave.play.controls import CONTROLS
from vqwave.presets import DEFAULT_PRESET, load_preset
from vqwave.report.health import find_faults, measure
from vqwave.studio.take import WILDEST

ROOT = Path(__file__).parent.parent
CODECS, GENERATORS = ROOT / weights.CODECS, ROOT / weights.GENERATORS
CHAIN = weights.chain(GENERATORS)


def dtypes(path):
    found = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: found.append(item.dtype) if isinstance(item, h5py.Dataset)
                        else None)
    return found


SHIPPED = ([(CODECS, name) for name in CHAIN.codecs.values()]
           + [(GENERATORS, name) for name in CHAIN.generators.values()])
"""Every set that ships, as folder and name."""


def test_every_set_ships_whole_in_half_precision_and_names_its_training_tracks():
    for folder, name in SHIPPED:
        found = weights.find(folder, name)
        assert found.tag == "" and found.trained_on, name
        for part, path in found.files.items():
            assert set(dtypes(path)) == {np.dtype("float16")}, path
            assert all(np.isfinite(a).all() for a in found.load(part).values()), path


def test_the_default_chain_ships_the_graphs_of_its_weights():
    chain, weight_sets = packing.default_chain(CODECS, GENERATORS)
    names = {export.graph_name(x, kind): (x, kind) for x in weight_sets for kind in export.kinds(x, "onnx")}
    assert len(weight_sets) == 3 and chain.bottom == CHAIN.ending
    assert len({x.graphs for x in weight_sets}) == 1 and (GENERATORS / weights.GRAPHS).stat().st_size <= 15e6
    graphs = export.unpack(weight_sets[0])
    assert set(graphs) == set(names)
    for name, (found, kind) in names.items():
        if found.name == "score":
            assert export.build(found, kind) == graphs[name]


def test_shipped_weights_match_their_preset():
    """But for the adversaries and the flux, which the decoders met when their codes were learnt."""
    preset = load_preset()
    assert preset.chain == CHAIN
    for name in CHAIN.codecs.values():
        shipped, described = (replace(model, adversary=None, loss=LossConfig())
                              for model in (weights.find(CODECS, name).config,
                                            preset.models[name]))
        assert shipped == described
    for level, name in CHAIN.generators.items():
        if level < CHAIN.top:
            assert weights.find(GENERATORS, name).config == preset.models[name]


def test_the_shipped_preset_loads_the_shipped_weights(tmp_path, monkeypatch):
    """Where nothing else was trained as that."""
    monkeypatch.chdir(tmp_path)
    music = vqwave.load(preset=DEFAULT_PRESET)
    assert music.chain == CHAIN
    assert {music.weight_set(name).folder for _, name in SHIPPED} == {CODECS, GENERATORS}
    (tmp_path / weights.GENERATORS / DEFAULT_PRESET).mkdir(parents=True)
    with pytest.raises(UserError, match="weights/vqwave: no weights of vqvae_512, of preset vqwave"):
        vqwave.load(preset=DEFAULT_PRESET).weight_set("vqvae_512")


def test_generators_were_trained_on_the_codecs_that_ship():
    for folder, generator in SHIPPED:
        trained_on = weights.find(folder, generator).record.get("codecs") or {}
        assert trained_on or folder == CODECS or generator == "score"
        for name, identity in trained_on.items():
            assert weights.find(CODECS, name).codes_id == identity


def test_weights_and_checkout_stay_small():
    sets = [weights.find(folder, name) for folder, name in SHIPPED]
    assert sum(p.stat().st_size for s in sets for p in s.files.values()) <= 40 << 20
    if not (ROOT / ".git").exists():
        pytest.skip("no git here to say what belongs to the checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True,
                            check=True).stdout.split(b"\0")
    tracked = [ROOT / name.decode() for name in listed if name]
    assert sum(p.stat().st_size for p in tracked if p.exists()) < 64 << 20


def test_a_temperature_is_that_of_the_level_that_it_names():
    """A value for all levels leaves the performer's own, which scales its noise."""
    music, heard = vqwave.load(CODECS, GENERATORS), []
    for sampling in ({}, {"temperature": 1.6}, {"score": {"temperature": 1.6}}, {512: {"temperature": 0.5}}):
        with music.stream(seed=3, sampling=sampling) as stream:
            codes = [(next(stream), stream.codes[512])[1] for _ in range(8)]
            heard.append((stream.notes(), np.concatenate(codes)))
            assert stream.sampling["512x"].temperature == (0.5 if 512 in sampling else 1.0)
    (plain, codes), (wild, _), (named, _), (same, louder) = heard
    assert plain == same != wild == named
    assert (codes != louder).any()


@pytest.mark.parametrize("seed", [133, 139])
def test_no_passage_of_a_piece_is_too_quiet_to_be_heard(seed):
    """In every 2.5 s. Without its governor, the score of each seed soon has no attacks."""
    music, half = vqwave.load(CODECS, GENERATORS), CHAIN.sample_rate // 2
    with music.stream(seed=seed, seconds=20) as stream:
        sound = np.concatenate(list(stream))
    powers = np.square(sound[: len(sound) // half * half].reshape(-1, half)).mean(axis=1)
    assert np.convolve(powers, np.ones(5) / 5, "valid").min() > 10 ** (-45 / 10)


@pytest.mark.parametrize(("density", "least", "most"), [(0.25, 0.05, 2), (1, 2, 8), (2, 6, 30)])
def test_the_density_control_sets_the_mean_number_of_notes(density, least, most):
    """In particular where few are asked for, nothing makes up for them with all notes at once."""
    music = vqwave.load(CODECS, GENERATORS)
    numbers, seconds = [], 40
    for seed in (201, 202, 203):
        with music.stream(seed=seed) as stream:
            level = stream._chain.score
            level.steering.density = density
            level.compose(seconds * 22050)
        starts = np.array([start for start, *_ in level.notes(0, seconds * 22050)])
        assert np.unique(starts, return_counts=True)[1].max() <= 12
        numbers.append(len(starts) / seconds)
    assert least < np.mean(numbers) < most
    assert density != 1 or max(numbers) > 1.5 * min(numbers)  # sections have densities of their own


def test_no_slider_of_the_score_silences_a_piece():
    """At either end of each slider, also of Calm to Wild, at least half of the notes a second."""
    music, seconds = vqwave.load(CODECS, GENERATORS), 30

    def notes(change):
        count = 0
        for seed in (1, 2, 3):
            with music.stream(seed=seed) as stream:
                stream.set(**change)
                stream._make_changes(0)
                level = stream._chain.score
                level.compose(seconds * 22050)
            count += len(level.notes(0, seconds * 22050))
        return count

    ends = [{name: end} for name, control in CONTROLS.items() if control.score for end in control.slide]
    ends.append({"chords": "Am F C G"})
    temperatures = [*CONTROLS["temperature"].slide, WILDEST, 1 / WILDEST]
    ends += [{"sampling": {"score": {"temperature": x}}} for x in temperatures]
    neutral = notes({})
    assert {str(change): count for change in ends if (count := notes(change)) < neutral / 2} == {}


@pytest.mark.large
@pytest.mark.parametrize("seed", (1, 2))
def test_ten_minutes_neither_die_nor_blow_up_nor_loop(seed):
    parts, codes = [], {}
    stream = vqwave.load(CODECS, GENERATORS).stream(seed=seed)
    for block in stream:
        parts.append(block)
        for level, made in stream.codes.items():
            codes.setdefault(level, []).append(made)
        if sum(map(len, parts)) >= 600 * CHAIN.sample_rate:
            break
    figures = measure(np.concatenate(parts), CHAIN.sample_rate)
    repeats = find_repeats({x: np.concatenate(c) for x, c in codes.items()}, CHAIN.sample_rate)
    assert find_faults(figures) == [] and not is_faulty({**figures, "repeats": repeats})
