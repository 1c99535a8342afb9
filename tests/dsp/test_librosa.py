"""What is heard in sounds equals what librosa 0.11 hears. The library does not import librosa: numba's
cache of it breaks for good when two processes first use it at once. `librosa.npz` has librosa's
results; `python tests/dsp/test_librosa.py FILE` writes them.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vqwave.data import vocoders
from vqwave.dsp import beats, notes, spectrum, timing
from vqwave.report import fad

RECORDED = Path(__file__).with_name("librosa.npz")
LIBRARY = str(Path(timing.__file__).parents[2])
RATE, HOP, N_FFT, STEPS = 22050, 64, 256, 8
EVERY = 80
"""Of long spectra, each 80th frame is compared."""
MEL_SCALES = (22050, 2048, 80), (16000, 512, 96), (3000, 256, 100)


def song(seed, beat, seconds=14):
    """float32 [samples]: plucked notes on half beats, drums on beats, and a pad; drawn by `seed`."""
    random = np.random.Generator(np.random.Philox(key=seed))
    time = np.arange(seconds * RATE) / RATE
    sound = 0.003 * random.standard_normal(time.size) + 0.05 * np.sin(2 * np.pi * 110 * time) * np.sin(time)
    clock = time[: RATE // 2]
    for step in range(int(2 * seconds / beat) - 2):
        first = round((step / 2 * beat + random.uniform(0, 0.02)) * RATE)
        hertz = 220 * 2 ** (random.integers(0, 24) / 12)
        strike = 0.2 * np.exp(-6 * clock) * sum(np.sin(2 * np.pi * k * hertz * clock) / k for k in (1, 2, 3))
        if step % 2 == 0:
            strike += 0.3 * np.exp(-20 * clock) * np.sin(2 * np.pi * 60 * clock)
        if step % 4 == 2:
            strike += 0.1 * np.exp(-40 * clock) * random.standard_normal(clock.size)
        part = sound[first :][: clock.size]
        part += strike[: part.size]
    sound[4 * RATE : 5 * RATE] = 0  # silence, of which nothing is the highest
    return sound.astype(np.float32)


SONGS = {"fast": song(1, 0.4), "slow": song(2, 0.83), "short": song(3, 0.5)[:1500]}


def levels():
    """The magnitudes of a song, float64 [frames, bins], for Griffin-Lim."""
    audio = SONGS["fast"][2 * RATE :][: 40 * HOP]
    return np.concatenate(list(spectrum.magnitudes(audio, N_FFT, HOP))).astype(np.float64)


def by_librosa():
    """librosa's results, by name."""
    import librosa

    heard = {f"mel {scale}": librosa.filters.mel(sr=scale[0], n_fft=scale[1], n_mels=scale[2])
             for scale in MEL_SCALES}
    heard["griffin_lim"] = librosa.griffinlim(
        levels().T, n_iter=STEPS, hop_length=HOP, n_fft=N_FFT, length=40 * HOP, init=None)
    for name, audio in SONGS.items():
        padded = np.pad(audio, (0, max(0, 2048 - len(audio))))
        at = {"sr": RATE, "hop_length": 256}
        envelope = librosa.onset.onset_strength(y=padded, **at)
        tempo = librosa.feature.tempo(onset_envelope=envelope, start_bpm=90, **at)
        bands = librosa.onset.onset_strength_multi(y=padded, channels=list(beats.ATTACK_BANDS), **at)
        attacks = [librosa.util.peak_pick(band / (band.std() + 1e-9), pre_max=3, post_max=4, pre_avg=9,
                                          post_avg=9, delta=1.0, wait=4) for band in bands]
        patches = librosa.feature.melspectrogram(y=audio, sr=fad.SAMPLE_RATE, n_fft=fad.N_FFT,
                                                 hop_length=fad.HOP, n_mels=fad.BANDS)
        transform = librosa.cqt(np.pad(audio, (0, 65 * 512)), sr=RATE, hop_length=512, fmin=notes.LOWEST_HZ,
                                n_bins=notes.BINS, bins_per_octave=24)
        heard |= {
            f"{name} envelope": envelope, f"{name} tempo": tempo,
            f"{name} beats": librosa.beat.beat_track(onset_envelope=envelope, bpm=100, trim=False, **at)[1],
            f"{name} onsets": librosa.onset.onset_detect(onset_envelope=envelope, units="time", **at),
            f"{name} constant_q": np.abs(transform.T[: 1 + len(audio) // 512 : EVERY]),
            f"{name} patches": np.log10(10000 * patches.T[: 1 - fad.FRAMES : fad.STEP] + 1)}
        heard |= {f"{name} attacks {band}": frames for band, frames in enumerate(attacks)}
    return {name: np.asarray(x, np.float32 if x.dtype.kind == "f" else int) for name, x in heard.items()}


def by_us():
    """Our results, by the names of `by_librosa`."""
    heard = {f"mel {scale}": spectrum.mel_filters(*scale) for scale in MEL_SCALES}
    heard["griffin_lim"] = vocoders.griffin_lim(levels(), N_FFT, HOP, STEPS)
    for name, audio in SONGS.items():
        envelope = timing.onset_envelope(audio, RATE)
        times, bands = beats.find_attacks(audio, RATE)
        frames = np.rint((times * RATE + beats.LATE) / 256).astype(int)
        heard |= {
            f"{name} envelope": envelope, f"{name} tempo": [beats._tempo(envelope)],
            f"{name} beats": beats._track(envelope, round(60 * timing.FRAMES_PER_SECOND / 100)),
            f"{name} onsets": timing._onsets(envelope),
            f"{name} constant_q": np.concatenate(list(notes.constant_q(audio, RATE)))[::EVERY],
            f"{name} patches": fad.patches(audio, fad.SAMPLE_RATE)[:, 0]}
        heard |= {f"{name} attacks {band}": frames[bands == band] for band in range(4)}
    return heard


@pytest.fixture(scope="module")
def ours():
    return by_us()


def assert_equal(ours, librosas):
    assert set(ours) == set(librosas)
    for name, expected in librosas.items():
        scale = max(1.0, np.abs(expected).max(initial=0))
        np.testing.assert_allclose(ours[name], expected, rtol=0, atol=1e-5 * scale, err_msg=name)


def test_all_is_heard_as_by_librosa(ours):
    with np.load(RECORDED) as recorded:
        assert_equal(ours, recorded)
    assert len(ours["fast beats"]) > 20 and len(ours["slow onsets"]) > 10
    assert all(len(ours[f"fast attacks {band}"]) for band in range(4))


LISTEN = """
import sys
for name in ("librosa", "numba", "scipy", "sklearn", "matplotlib", "tensorflow", "keras"):
    sys.modules[name] = None  # importing it fails
sys.path.insert(0, sys.argv[1])
from test_librosa import RATE, SONGS
from vqwave.data.scores import Score
from vqwave.dsp import notes, timing
from vqwave.studio.pictures import Roll
song = SONGS["fast"][: 3 * RATE]
assert len(Score.of(song, RATE).starts) and timing.compare(song, song, RATE)["attacks"] == 1
assert notes.compare(song, song, RATE)["notes"] == 1
assert len(notes.roll(song, RATE).time) and Roll(RATE).push(song, last=True)
"""


def test_listening_needs_only_what_plays():
    done = subprocess.run([sys.executable, "-W", "error", "-c", LISTEN, Path(__file__).parent],
                          capture_output=True, text=True, env=os.environ | {"PYTHONPATH": LIBRARY})
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    np.savez_compressed(sys.argv[1], **by_librosa())
