"""How much of the music each codec keeps, beside Opus and MP3 at like bit rates; hum; silence."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from ... import plots
from ...dsp import metrics
from ...io import audio
from ...io.splits import track_name
from .. import fad
from ..benchmark import Target, worst
from ..media import EXAMPLE_SECONDS, MP3_RATES, encode_file
from .part import DistanceTarget, Part, distance_size, distance_title, side_by_side

EXCERPT = 20.0
"""Seconds of each test track, from a third of its length, that codecs are judged by."""

BASELINES = (("Opus", "libopus", 32000), ("Opus", "libopus", 6000), ("MP3", "libmp3lame", 32000),
             ("MP3", "libmp3lame", 8000))
"""Name, encoder and bits per second: near to the codecs at 8x and 32x."""

HUM_FFT = 8192
"""Samples of a spectrum in which hum is looked for, at least."""


class Codecs(Part):
    """A row for each codec and baseline: {"codec", "kbps", "sc_db", "mel", "si_sdr_db", "fad", …}.
    """

    name = "codecs"
    fresh = True

    def measure(self, evaluation):
        common = {"figure": "codec", "test": evaluation.corpus(evaluation.test), "excerpt": EXCERPT}
        rows = []
        for level, name in evaluation.music.chain.codecs.items():
            key = common | {"by": evaluation.codec_key(level), "engine": evaluation.music.engine}
            rows.append(evaluation.figure(key,
                                          lambda level=level: measure_codec(evaluation, level),
                                          name))
        for baseline in baselines(evaluation.rate):
            name, encoder, rate = baseline
            key = common | {"by": encoder, "rate": rate}
            rows.append(evaluation.figure(key, lambda b=baseline: measure_baseline(evaluation, *b),
                                          baseline_name(name, rate)))
        return rows

    def figures(self, chain):
        def of_level(level):
            return (*(Target(f"{title}, {level}x", sign, None, None, unit,
                             worst("codecs", key, level=level))
                      for key, title, unit, sign in (
                          ("sc_db", "SC", "dB", "≤"), ("mel", "mel", "", "≤"),
                          ("si_sdr_db", "SI-SDR", "dB", "≥"))),
                    DistanceTarget.of(f"Fréchet distance, {level}x", lambda results: next(
                        (row for row in results.get("codecs") or () if row["level"] == level),
                        None)))

        return (
            *(target for level in reversed(chain.sizes) for target in of_level(level)),
            Target("codes in use, worst level", "≥", None, None, "", worst("codecs", "usage", min)),
            Target("hum at the codes' rate, worst "
                   "level", "≤", None, None, "dB", worst("codecs", "buzz_db", max)),
            Target("notches at the codes' rate, worst "
                   "level", "≥", None, None, "dB", worst("codecs", "notch_db")),
            Target("silence, worst "
                   "level", "<", None, None, "dBFS", worst("codecs", "silence_db", max)),
        )

    def draw(self, results, evaluation, gallery):
        music, heard, counts = evaluation.music, decode_example(evaluation), {}
        gallery.example("original.ogg", heard["original"])
        for level in music.chain.sizes:
            gallery.example(f"reconstruction_{level}.ogg", heard[f"{level}x"])
            books = count_codes(evaluation, level)
            counts |= {f"{level}x" + f", book {i + 1}" * (len(books) > 1): book
                       for i, book in enumerate(books)}
        title = (f"{track_name(evaluation.test[0])}, {EXAMPLE_SECONDS:g} s, and what each codec "
                 "keeps of it")
        gallery.picture("reconstructions.png", plots.spectrograms, heard,
                        sample_rate=evaluation.rate, title=title)
        gallery.picture("usage.png", plots.code_usage, counts)

    def write(self, page, sides, evaluation):
        page.heading("Codecs")
        page.add(f"{EXCERPT:g} s of each track, from a third of its length; means over the tracks. "
                 f"Lower is better for SC, mel and distance (between the reconstructions and their "
                 f"originals), higher for SI-SDR, notes and chroma. Notes: notes kept, the F1 of "
                 f"the peaks of a constant-Q transform (chance is about 0.24); chroma: how alike "
                 f"the pitch classes of both are (chance 0.34). Codes in use and perplexity are of "
                 f"the whole tracks. Hum: how far lines at the codes' rate and its multiples stand "
                 f"out of what lies beside them, more than in the original, at worst, less the "
                 f"same half-way between them; beyond 3 dB it can be heard. Notches: how far they "
                 f"fall short, likewise. Silence: what comes back of digital silence, rms and "
                 f"peak.")
        if missing := {name for name, *_ in set(BASELINES) - set(baselines(evaluation.rate))}:
            page.add(f"Without {' and '.join(sorted(missing))}: it knows no sample rate of "
                     f"{evaluation.rate} Hz.")
        page.tables(side_by_side([_near(found, side if len(sides) > 1 else "")
                                  for side, found in sides.items()], 2),
                    side_by_side([_codes(found["codecs"]) for found in sides.values()]))
        if any("books" in row for found in sides.values() for row in found["codecs"]):
            page.tables(side_by_side([_books(found["codecs"]) for found in sides.values()], 2))
        page.listen([("original.ogg", "original"),
                     *((f"reconstruction_{x}.ogg", f"{x}x") for x in evaluation.music.chain.sizes)])
        page.picture("reconstructions.png", "Waveform and spectrogram of an original and of each "
                                            "level's "
                     "reconstruction")
        page.picture("usage.png", "How often each code occurs, by rank")


def _near(found, side):
    """How near each codec comes, with the notes that it keeps where those were measured.

    side: see `distance_title`.
    """
    rows = found["codecs"]
    kept = {row["codec"]: row for row in found.get("notes", {}).get("codecs", ())}

    def note(row, key):
        return f"{kept[row['codec']][key]:.3f}" if row["codec"] in kept else ""

    titles = {row["codec"]: distance_title(distance_size(row), side) for row in rows}
    columns = list(dict.fromkeys(titles.values()))
    return [("codec", "kbit/s", "SC dB", "mel", "SI-SDR dB", *columns, "notes", "chroma"),
            *((row["codec"], f"{row['kbps']:.2f}", f"{row['sc_db']:.2f}", f"{row['mel']:.3f}",
               f"{row['si_sdr_db']:.2f}",
               *(f"{row['fad']:.1f}" if titles[row["codec"]] == column
                 else "" for column in columns),
               note(row, "notes"), note(row, "chroma")) for row in rows)]


def _codes(rows):
    return [("codec", "codes in use", "perplexity", "hum dB", "notches dB", "silence dBFS"),
            *((row["codec"], f"{row['usage']:.1%}", f"{row['perplexity']:.0f}",
               f"{row['buzz_db']:+.1f}",
               f"{row['notch_db']:+.1f}", f"{row['silence_db']:.0f}, {row['silence_peak_db']:.0f}")
              for row in rows if row["level"])]


def _books(rows):
    return [("codec", "book", "codes in use", "perplexity"), *(
        (row["codec"], str(i + 1), f"{book['usage']:.1%}", f"{book['perplexity']:.0f}")
        for row in rows for i, book in enumerate(row.get("books", ())))]


def excerpts(evaluation) -> dict[str, np.ndarray]:
    """`EXCERPT` seconds of each test track by name, float32, a multiple of the top level long."""
    made = {}
    for track in evaluation.test:
        start = track.samples // 3
        count = evaluation.cut(min(round(EXCERPT * evaluation.rate), track.samples - start))
        made[track_name(track)] = evaluation.samples(track, start, count)
    return made


def decode_example(evaluation) -> dict[str, np.ndarray]:
    """{"original", "512x", …}: a part of the first test track, and what each codec makes of it."""
    track, rate = evaluation.test[0], evaluation.rate
    start = min(track.samples // 3, max(0, track.samples - round(EXAMPLE_SECONDS * rate)))
    sound = evaluation.samples(track, start,
                               min(round(EXAMPLE_SECONDS * rate), track.samples - start))
    made = {"original": sound}
    for level in evaluation.music.chain.sizes:
        made[f"{level}x"] = evaluation.music.decode(evaluation.music.encode(sound, level),
                                                    level)[: len(sound)]
    return made


def decode_excerpts(evaluation, level: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(original, reconstruction) of each of the `excerpts`, by the codec of a level."""
    codec = evaluation.music.codec(level)
    return [(x, codec.decode(codec.encode(x[None]))[0, : len(x)])
            for x in excerpts(evaluation).values()]


def recode_excerpts(evaluation, encoder: str,
                    bit_rate: int) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
    """(original, reconstruction) of each of the `excerpts`, by an encoder of FFmpeg; the bytes of
    all files.
    """
    pairs, size = [], 0
    for x in excerpts(evaluation).values():
        made, length = recode(x, evaluation.rate, encoder, bit_rate)
        pairs.append((x, made))
        size += length
    return pairs, size


def baselines(sample_rate: int) -> list[tuple[str, str, int]]:
    """Those of `BASELINES` that know a sample rate."""
    return [one for one in BASELINES if one[1] == "libopus" or sample_rate in MP3_RATES]


def baseline_name(name: str, bit_rate: int) -> str:
    return f"{name} {bit_rate // 1000}"


def measure_codec(evaluation, level: int) -> dict:
    codec, rate = evaluation.music.codec(level), evaluation.rate
    pairs = decode_excerpts(evaluation, level)
    silence = codec.decode(codec.encode(np.zeros((1, 5 * rate), np.float32)))[0]
    return ({"codec": codec.config.name, "level": level, "kbps": metrics.bitrate(codec.config)}
            | compare(evaluation, pairs) | metrics.codebook_figures(count_codes(evaluation, level))
            | {"silence_db": metrics.rms_db(silence), "silence_peak_db": metrics.peak_db(silence)}
            | buzz(pairs, level))


def measure_baseline(evaluation, name: str, encoder: str, bit_rate: int) -> dict:
    pairs, size = recode_excerpts(evaluation, encoder, bit_rate)
    seconds = sum(len(x) for x, _ in pairs) / evaluation.rate
    row = {"codec": baseline_name(name, bit_rate), "level": 0, "kbps": 8 * size / seconds / 1000}
    return row | compare(evaluation, pairs)


def compare(evaluation, pairs) -> dict:
    """The means of the distances of (original, reconstruction), and the Fréchet distance between
    all of both.
    """
    rate = evaluation.rate
    rows = [metrics.distances(x, y, rate) for x, y in pairs]
    original, made = (np.concatenate([evaluation.embed(pair[i], rate) for pair in pairs])
                      for i in (0, 1))
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]} | {
        "fad": fad.frechet(made, original), "seconds": sum(len(x) for x, _ in pairs) / rate}


def count_codes(evaluation, level: int) -> np.ndarray:
    """How often each code of a level's codebooks occurs in the test tracks: int64 [codebooks,
    num_codes].
    """

    def count():
        codec, counts = evaluation.music.codec(level), 0
        for i, track in enumerate(evaluation.test):
            evaluation.progress(evaluation.part, codec.config.name, i / len(evaluation.test))
            codes = codec.encode(evaluation.samples(track)[None])[0]
            counts = counts + metrics.histogram(codes, codec.config.num_codes,
                                                codec.config.codebook_of)
        return {"counts": counts}

    key = {"figure": "counts of codebooks", "by": evaluation.codec_key(level),
           "test": evaluation.corpus(evaluation.test)}
    return evaluation.arrays(key | {"engine": evaluation.music.engine}, count)["counts"]


def recode(x, sample_rate: int, encoder: str, bit_rate: int) -> tuple[np.ndarray, int]:
    """A sound through an encoder of FFmpeg and back.

    Opus: 24 kHz, frames of 60 ms (the best at such rates) and a constant bit rate, so that it is
    the one named; what comes back is shifted by the few samples that its low-rate mode is late,
    since a waveform's figures would tell nothing but that. MP3: as LAME does by itself, at the rate
    of the music.

    Args:
        x: float32 [samples].

    Returns:
        float32 [samples], and the bytes of the file.
    """
    options = {"frame_duration": 60, "vbr": "off"} if encoder == "libopus" else {}
    data = encode_file(x, sample_rate, encoder, bit_rate, **options)
    # Decoded as music is everywhere here, which takes a file.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "music"
        path.write_bytes(data)
        made = audio.decode(path, sample_rate)
    late = 8 if encoder == "libopus" else 1
    made = np.pad(made, (0, max(0, len(x) + late - len(made))))
    shifted = [made[i : i + len(x)] for i in range(late)]
    return max(shifted, key=lambda y: metrics.si_sdr(x, y)), len(data)


def buzz(pairs, level: int) -> dict[str, float]:
    """How much a codec hums at the rate of its codes.

    Long-term spectra of all pairs are compared at sample rate / level Hz and each of its multiples.
    Notes that come back a little off make differences anywhere; so each figure is taken once more
    half-way between the multiples, where no codec hums, and only what exceeds that counts. What is
    80 dB under the loudest is taken for silence.

    Args:
        pairs: (original, reconstruction), float32 [samples] each.

    Returns:
        In dB: line_db: how much louder the reconstruction is at one of these places, at most;
        buzz_db: how much further it stands out there of what lies beside it than the original does,
        at most, less the same half-way between (more than 3 dB can be heard as a tone); notch_db:
        the same of the least, where the line is missed.
    """
    n_fft = level * max(-(-HUM_FFT // level), 32)
    spectra = []
    for side in (0, 1):
        power, frames = np.zeros(1), 0
        for pair in pairs:
            for block in metrics.magnitudes(pair[side], n_fft, n_fft // 2, frames=64):
                power, frames = (power + np.square(block, dtype=np.float64).sum(0), frames
                                 + len(block))
        spectra.append(power / frames)
    floor = spectra[0].max() * 1e-8
    original, made = (np.maximum(s, floor) for s in spectra)
    spacing = n_fft // level

    def line_gain(bins):
        """dB that each place gained, and dB by which it gained more than what lies beside it."""
        at, around = ([fold(power[bins[:, None] + near], 1) for power in (made, original)]
                      for fold, near in ((np.max, metrics.LINE), (np.median, metrics.BESIDE)))
        gain = 10 * np.log10(at[0] / at[1])
        return gain, gain - 10 * np.log10(around[0] / around[1])

    lines = np.arange(spacing, n_fft // 2 - 8, spacing)
    gain, excess = line_gain(lines)
    _, elsewhere = line_gain(lines - spacing // 2)
    return {"line_db": float(gain.max()),
            "buzz_db": float(excess.max() - max(0.0, elsewhere.max())),
            "notch_db": float(excess.min() - min(0.0, elsewhere.min()))}
