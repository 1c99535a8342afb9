"""The oracle of magnitudes: how good a decoder without phases could sound.

The phases of a spectrogram are integrated from its magnitudes: phase gradient heap integration
(Průša, Balazs, Søndergaard 2017), in real time with one frame of look-ahead (Průša, Søndergaard
2016). The oracle takes the *true* magnitudes of test tracks, so it shows what a decoder could reach
that predicts magnitudes alone. Prints a table: a row for the recordings, for a codec, and for each
window and hop; means over 15 s of each test track. On Wesnoth, with the 512x codec that ships:

| | contrast, six bands | roughness | mel | SC dB | contour |
|---|---|---|---:|---:|---:|
| recordings | 25.8 23.3 23.9 23.5 22.9 24.0 | 4.1 3.7 3.6 | | | |
| vqvae_512 | 20.3 22.7 21.2 18.3 20.0 22.7 | 6.0 6.9 4.9 | 0.31 | -7.3 | 0.71 |
| window 1,024, hop 256 | 25.1 23.4 24.3 24.1 22.9 24.4 | 4.3 12.3 3.6 | 0.10 | -12.7 | 0.97 |
| window 2,048, hop 512 | 27.3 25.2 25.4 24.5 23.7 25.2 | 13.2 4.2 3.8 | 0.12 | -11.4 | 0.98 |
| window 2,048, hop 256 | 27.8 24.8 25.3 24.8 23.8 25.5 | 3.6 2.5 3.5 | 0.09 | -12.2 | 0.99 |

So magnitudes are enough for clear sound, but with an overlap of four the sound buzzes at the rate
of the frames.
"""

import sys
from heapq import heapify, heappop, heappush

import librosa
import numpy as np

from vqwave import cli, progress
from vqwave.dsp import clarity, metrics, timing
from vqwave.play.engine import CodecEngine
from vqwave.report import tables

from . import excerpts, results

WINDOWS = ((1024, 256), (2048, 512), (2048, 256))
"""Windows of the STFT and their hops, in samples."""
SECONDS = 15.0
HANN_AS_GAUSSIAN = 0.25645
"""γ / window² of the Gaussian that is nearest to a Hann window."""
TOLERANCE = 1e-4
"""Bins that are quieter, relative to the loudest bin nearby, have random phases."""
COLUMNS = (tables.Column("sound", "sound"), *(
    tables.Column(f"contrast {band}", f"contrast_{band}", ".1f") for band in clarity.CONTRAST_BANDS
    ), *(tables.Column(f"roughness {rate}", f"roughness_{rate}", ".1f")
         for rate in clarity.FRAME_RATES), tables.Column("mel", "mel", ".2f"),
    tables.Column("SC dB", "sc_db", ".1f"), tables.Column("contour", "contour", ".2f"),
    tables.Column("attacks", "attacks", ".2f"))


def phase_steps(magnitudes: np.ndarray, window: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """The derivatives of the phases in radians: (to the next frame, to the next bin), each
    [frames, bins]. magnitudes: float [frames, bins] under a Hann window.
    """
    gamma = HANN_AS_GAUSSIAN * window**2
    logs = np.pad(np.log(np.maximum(magnitudes, 1e-10)), 1, mode="edge")
    over_bins = logs[1:-1, 2:] - logs[1:-1, :-2]
    over_frames = logs[2:, 1:-1] - logs[:-2, 1:-1]
    centre = 2 * np.pi * hop * np.arange(magnitudes.shape[1]) / window
    return (hop * window / (2 * gamma) * over_bins + centre,
            -gamma / (2 * hop * window) * over_frames)


def integrate(magnitudes: np.ndarray, window: int, hop: int, seed: int = 0) -> np.ndarray:
    """The phases of magnitudes, in radians: float64 [frames, bins].

    Loud bins come first. Each continues its own phase of the frame before, or that of a neighbour
    with a phase, by the mean of the derivatives at both ends.
    """
    to_next_frame, to_next_bin = phase_steps(magnitudes, window, hop)
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, magnitudes.shape)
    for n, frame in enumerate(magnitudes):
        last = max(n - 1, 0)
        before = magnitudes[last]
        least = TOLERANCE * max(frame.max(), before.max())
        continued = phases[last] + 0.5 * (to_next_frame[last] + to_next_frame[n])
        starts = np.flatnonzero(before > least) if n else []
        audible = frame > least
        phases[n, audible] = _integrate_frame(
            frame.tolist(), audible, phases[n].tolist(), to_next_bin[n].tolist(),
            continued.tolist(), [(-float(before[m]), True, int(m)) for m in starts])[audible]
    return phases


def _integrate_frame(magnitudes, audible, phases, to_next_bin, continued, heap) -> np.ndarray:
    """The phases of a frame, float64 [bins]. phases: of bins that nothing leads to; continued: of
    bins that follow the frame before; heap: (-loudness, True, bin) of that frame.
    """
    heapify(heap)
    missing, quietest_first = audible.tolist(), np.argsort(magnitudes).tolist()
    while True:
        if not heap:  # a part of the frame that nothing leads to keeps a random phase
            while quietest_first and not missing[quietest_first[-1]]:
                quietest_first.pop()
            if not quietest_first:
                return np.array(phases)
            m = quietest_first.pop()
            missing[m] = False
            heappush(heap, (-magnitudes[m], False, m))
        _, is_before, m = heappop(heap)
        if is_before:
            if missing[m]:
                phases[m], missing[m] = continued[m], False
                heappush(heap, (-magnitudes[m], False, m))
            continue
        for side in (1, -1):
            k = m + side
            if 0 <= k < len(missing) and missing[k]:
                phases[k] = phases[m] + 0.5 * side * (to_next_bin[m] + to_next_bin[k])
                missing[k] = False
                heappush(heap, (-magnitudes[k], False, k))


def sound_of_magnitudes(magnitudes: np.ndarray, window: int, hop: int, samples: int) -> np.ndarray:
    """magnitudes: float [window / 2 + 1, frames] of `librosa.stft` -> float [samples]."""
    phases = integrate(magnitudes.T.astype(float), window, hop).T
    # The phases are those at the centre of a window; the FFT counts from its start, half a window
    # earlier: π for each bin.
    phases += np.pi * np.arange(len(magnitudes))[:, None]
    return librosa.istft(magnitudes * np.exp(1j * phases), hop_length=hop, n_fft=window,
                         length=samples)


def measure(recording: np.ndarray, copy: np.ndarray, rate: int) -> dict[str, float]:
    """The figures of `COLUMNS` of a copy, float32 [samples]."""
    times = timing.compare(recording, copy, rate)
    return clarity.measure(copy, rate).figures | {
        "mel": metrics.mel_distance(recording, copy, rate),
        "sc_db": metrics.spectral_convergence(recording, copy),
        "contour": times["contour"], "attacks": times["attacks"]}


def main(argv=None) -> int:
    description, _, _ = __doc__.partition(" On Wesnoth")
    parser = cli.parser(" ".join(description.split()), "--data-dirs data/wesnoth")
    excerpts.add_codec(parser)
    results.add_corpora(parser)
    args = parser.parse_args(argv)
    codec, rows = CodecEngine(excerpts.find_codec(args)), {}
    rate = codec.config.sample_rate
    with progress.bar() as bar:
        sides = [*excerpts.sides(results.corpora(args), codec, ("test",), bar)]
        for recording, decoded in bar.track([pair for side in sides for pair in side.pairs]):
            recording, decoded = (x[: round(SECONDS * rate)] for x in (recording, decoded))
            copies = {"recording": recording, codec.config.name: decoded}
            for window, hop in WINDOWS:
                magnitudes = np.abs(librosa.stft(recording, n_fft=window, hop_length=hop))
                copies[f"true magnitudes, window {window}, hop {hop}"] = sound_of_magnitudes(
                    magnitudes, window, hop, len(recording))
            for sound, copy in copies.items():
                rows.setdefault(sound, []).append(measure(recording, copy, rate))
    print(tables.render([{"sound": sound} | {key: float(np.mean([row[key] for row in each]))
                                             for key in each[0]} for sound, each in rows.items()],
                        COLUMNS))
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
