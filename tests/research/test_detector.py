from types import SimpleNamespace

import imported
import numpy as np
from prepared import data_folder, music
from research import detector

RATE = 4000


def sounds(rng, count=3, seconds=6.0):
    """Recordings of noise, and copies with a quiet tone."""
    t = np.arange(round(seconds * RATE)) / RATE
    noises = 0.1 * rng.standard_normal((count, len(t)))
    return [(x.astype(np.float32), (x + 0.2 * np.sin(2 * np.pi * 1234 * t)).astype(np.float32)) for x in noises]


def test_a_network_tells_copies_with_a_whistle_and_recordings_from_none(rng, monkeypatch):
    monkeypatch.setattr(detector, "SEEDS", (1,))
    monkeypatch.setattr(detector, "STEPS", 40)
    monkeypatch.setattr(detector, "CLIP_SECONDS", 1.0)
    monkeypatch.setattr(detector, "STEP_SECONDS", 0.25)
    training, unheard = sounds(rng), {"test": sounds(rng)}
    assert detector.measure(training, unheard, RATE)["test"][0] > 0.9
    [control] = detector.measure([(x, x) for x, _ in training], {"test": [(x, x) for x, _ in unheard["test"]]}, RATE)["test"]
    assert 0.25 < control < 0.75


def test_a_batch_is_a_function_of_its_key_and_deaf_to_loudness(rng):
    pairs = sounds(rng)
    spectra, labels = detector.draw_batch(pairs, RATE, 1, 2)
    assert labels.tolist() == [0, 1] * (detector.BATCH // 2)
    for key, pairs_drawn, same in (((1, 2), pairs, True), ((1, 3), pairs, False), ((1, 2), [(x / 8, 4 * y) for x, y in pairs], True)):
        assert np.allclose(detector.draw_batch(pairs_drawn, RATE, *key)[0], spectra, atol=1e-3) is same


def test_no_passage_is_judged_as_recording_and_as_copy_and_pauses_are_left_out():
    recording = np.repeat(np.arange(1, 9, dtype=np.float32), 10) * np.tile([1, -1], 40)
    recording[20:30] = 0
    clips = [(float(np.abs(clip[0])), label) for clip, label in detector.cut([(recording, 10 * recording)], 10, 10)]
    assert clips == [(1, 0), (20, 1), (40, 1), (5, 0), (60, 1), (7, 0), (80, 1)]


def test_the_page_has_the_codec_and_the_control_on_every_side(tiny_weights, tmp_path, monkeypatch, capsys):
    for name, value in (("STEPS", 2), ("SEEDS", (1, 2)), ("CLIP_SECONDS", 0.5), ("STEP_SECONDS", 0.25)):
        monkeypatch.setattr(detector, name, value)
    for n, name in enumerate(("one", "two")):
        data_folder(tmp_path / name, {f"{track} {name}": music(1.5, 10 * n + i) for i, track in enumerate("abtf")})
        (tmp_path / f"{name}.yml").write_text(f"test: [t {name}]\nfresh: [f {name}]\n")
    code, _, error = imported.run(
        capsys, "research.detector", "--data-dirs", tmp_path / "one", tmp_path / "two", "--splits", tmp_path / "one.yml",
        tmp_path / "two.yml", "--vqvae-weights-dir", tiny_weights.codecs, "--output-dir", tmp_path, "--before", tiny_weights.codecs)
    assert code == 0, error
    page = (tmp_path / "research/results/detector.md").read_text(encoding="utf-8")
    for words in (detector.FIGURE, detector.CONTROL, detector.BEFORE, f"| one test | one fresh | two test | two fresh | {detector.HELD_OUT} |"):
        assert words in page


def test_a_performance_stands_beside_the_copy_of_its_track(monkeypatch):
    """Both from the same second on."""
    track = SimpleNamespace(sample_rate=10, samples=90)
    side = SimpleNamespace(tracks=[track], pairs=[(None, np.full(50, 0.5))])
    monkeypatch.setattr(detector.scores, "of_track", lambda folder, track: "score")
    music = SimpleNamespace(generate=lambda samples, seed, score, **_: np.arange(samples) / 256)
    [(copy, performance)] = detector.perform(music, "folder", side)
    assert len(copy) == len(performance) == 50 and performance[0] == 30 / 256
