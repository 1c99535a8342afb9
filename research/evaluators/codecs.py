"""How much of the music each codec keeps, beside Opus and MP3; the clarity of the copies; silence.

Spectral convergence, mel and SI-SDR are deaf to notes; notes and chroma are deaf to timing; the
Fréchet distance is deaf to both. `vqwave.dsp.clarity` says what clarity is deaf to.
"""

import tempfile
from collections.abc import Iterable

import numpy as np

from vqwave.dsp import metrics
from vqwave.io import audio
from vqwave.report import judge

from ..corpus import cached
from ..media import encode_file

EXCERPT_SECONDS = 20.0  # of each track, from a third of its length
BASELINES = (("Opus 32", "libopus", 32000), ("Opus 6", "libopus", 6000),
             ("MP3 32", "libmp3lame", 32000), ("MP3 8", "libmp3lame", 8000))
"""Name, encoder of FFmpeg and bits per second: near to the codecs at 8x and at 32x."""
COMPARED = {"sc_db": "SC", "mel": "mel", "si_sdr_db": "SI-SDR", "notes": "notes kept",
            "chroma": "chroma", "contour": "contour", "attacks": "attacks",
            "beat": "windows with a beat", "note_events": "note events",
            **{metric.name: metric.title for metric in judge.CLARITY},
            "whistle_hz": "whistle at Hz",
            "distance": "Fréchet distance", "bitrate_kbps": "kbit/s"}
CODED = {"usage": "codes in use", "perplexity": "perplexity", "silence_db": "silence"}
WORST = {"usage": min, "roughness": max, "whistle": max, "silence_db": max}


def run(corpus) -> Iterable[tuple[str, float]]:
    """Means over the tracks, a figure for each level and baseline; codes of the whole tracks."""
    rows = {f"{level}x": measure_codec(corpus, level)
            for level in reversed(corpus.music.chain.sizes)}
    levels = list(rows.values())
    rows |= {name: measure_recoded(corpus, encoder, bit_rate)
             for name, encoder, bit_rate in baselines_at(corpus.rate)}
    if (beat := levels[0]["beat_of_original"]) is not None:
        yield "windows with a beat, original", beat
    for subject, row in rows.items():
        yield from ((f"{title}, {subject}", row[key]) for key, title in (COMPARED | CODED).items()
                    if row.get(key) is not None)
    for key, worst in WORST.items():
        if (values := [row[key] for row in levels if row[key] is not None]):
            yield f"{(COMPARED | CODED)[key]}, worst level", worst(values)


def baselines_at(rate: int) -> list[tuple[str, str, int]]:
    """The `BASELINES` that encode sound of this sample rate."""
    return [x for x in BASELINES if x[1] == "libopus" or rate in audio.MP3_RATES]


def excerpts(corpus) -> list[np.ndarray]:
    """`EXCERPT_SECONDS` of each track, float32, a multiple of the top level long."""
    most = round(EXCERPT_SECONDS * corpus.rate)
    return [corpus.samples(track, start, corpus.cut(min(most, track.samples - start)))
            for track in corpus.tracks for start in [track.samples // 3]]


@cached("codecs", "tracks")
def measure_codec(corpus, level: int) -> dict:
    codec = corpus.music.codec(level)
    codes = np.concatenate([frames for _, frames in corpus.codes(level, corpus.tracks)])
    pairs = [(x, codec.decode(codec.encode(x[None]))[0, : len(x)]) for x in excerpts(corpus)]
    silence = codec.decode(codec.encode(np.zeros((1, 5 * corpus.rate), np.float32)))[0]
    return (judge.compare(pairs, corpus.rate, corpus.embed)
            | judge.code_figures(codec.config, codes) | {"silence_db": metrics.rms_db(silence)})


@cached("tracks")
def measure_recoded(corpus, encoder: str, bit_rate: int) -> dict:
    return measure_baseline(excerpts(corpus), corpus.rate, corpus.embed, encoder, bit_rate)


def measure_baseline(sounds, rate: int, embed, encoder: str, bit_rate: int) -> dict:
    """The figures of `judge.compare` for sounds through an encoder of FFmpeg, and the bit rate."""
    copies, sizes = zip(*(recode(x, rate, encoder, bit_rate) for x in sounds), strict=True)
    figures = judge.compare(zip(sounds, copies, strict=True), rate, embed)
    return figures | {"bitrate_kbps": 8 * sum(sizes) / figures["seconds"] / 1000}


def recode(x, sample_rate: int, encoder: str, bit_rate: int) -> tuple[np.ndarray, int]:
    """A sound through an encoder of FFmpeg and back: float32 [samples], and the bytes of the file.

    Opus: 24 kHz, frames of 60 ms (the best at such rates), constant bit rate; the copy is shifted
    by the few samples that the low-rate mode delays it. MP3: LAME's defaults.
    """
    options = {"frame_duration": 60, "vbr": "off"} if encoder == "libopus" else {}
    data = encode_file(x, sample_rate, encoder, bit_rate, **options)
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        copy = audio.decode(file.name, sample_rate)
    delays = 8 if encoder == "libopus" else 1
    copy = np.pad(copy, (0, max(0, len(x) + delays - len(copy))))
    shifted = [copy[i : i + len(x)] for i in range(delays)]
    return max(shifted, key=lambda y: metrics.si_sdr(x, y)), len(data)

