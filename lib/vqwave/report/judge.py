"""Measures how well a codec reconstructs music, and judges whether the codec suits the music."""

import functools
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..codecs import CodecConfig
from ..dsp import clarity, metrics, notes, timing, transcription
from ..errors import UserError, first_names
from ..io import audio, labels, manifest, splits, weights
from ..io.files import printable
from ..play import engine
from . import fad, tables

HIGHER, LOWER = "higher", "lower"
EXCERPT_SECONDS, TOTAL_SECONDS = 20.0, 120.0
"""Seconds of each track (more if there are few tracks), and the most seconds of all tracks."""
LEAST_SECONDS = 60.0
"""The Fréchet distance and the whistle of less audio are too large, so they, and clarity, do not
count in a verdict."""
IN_DOMAIN_KEY = "held_out"
"""The key, in the record of weights, of the codec's values on held-out tracks of its corpus."""


def measure(original: np.ndarray, copy: np.ndarray, rate: int) -> dict[str, float]:
    """The values of `PAIRED` for an original and its copy, float32 [samples] each."""
    return notes.compare(original, copy, rate) | timing.compare(original, copy, rate) | {
        "note_events": transcription.compare(original, copy, rate),
        "sc_db": metrics.spectral_convergence(original, copy),
        "mel": metrics.mel_distance(original, copy, rate),
        "si_sdr_db": metrics.si_sdr(original, copy)}


@dataclass(frozen=True)
class Metric:
    """A value of `measure` or of `clarity.compare`.

    bound: the limit in a verdict; None: not in a verdict. in_domain: the limit as a multiple of the
    codec's value on its own corpus, if that is known; None: `bound` for every codec.
    """

    name: str
    title: str
    better: str = HIGHER
    decimals: int = 2
    bound: float | None = None
    in_domain: float | None = None

    @property
    def column(self) -> tables.Column:
        return tables.Column(self.title, self.name, f".{self.decimals}f")


PAIRED = (
    Metric("notes", "notes kept", HIGHER, 2, 0.6, 0.9), Metric("chroma", "chroma"),
    Metric("contour", "contour", HIGHER, 2, 0.45, 0.8), Metric("attacks", "attacks"),
    Metric("beat", "windows with a beat"), Metric("beat_of_original", "… of the original"),
    Metric("note_events", "note events"), Metric("sc_db", "SC dB", LOWER),
    Metric("mel", "mel", LOWER, 2, 0.7, 1.25), Metric("si_sdr_db", "SI-SDR dB"),
)
"""Values of `measure`."""
CLARITY = (
    Metric("contrast", "contrast error", LOWER, 1, 10.0),
    Metric("roughness", "roughness excess dB", LOWER, 1, 10.0),
    Metric("whistle", "whistle", LOWER, 2, 0.8), Metric("step", "step error dB", LOWER, 1),
    Metric("on_grid", "grid excess", LOWER, 2), Metric("flicker", "flicker change dB", LOWER, 1),
    Metric("highs", "highs change dB", HIGHER, 1),
    Metric("loudness", "loudness change dB", HIGHER, 1),
)
"""Values of `clarity.compare`: 0 for an exact copy. The bounds are those of gross faults: noise
alone has a contrast error of 12, and 120 s of music through the shipped codec 4 to 6.
"""
METRICS = (*PAIRED, *CLARITY)
DISTANCE = Metric("distance", "distance", LOWER, 1, 40.0, 1.5)
"""The Fréchet distance over all pairs together."""
BOUNDED = tuple(metric for metric in (*METRICS, DISTANCE) if metric.bound is not None)


def judge(codec: engine.CodecEngine, sounds: Sequence[np.ndarray], *,
          track_labels: Sequence[str | None] | None = None, books: int | None = None,
          embed: fad.Embedder | None = None,
          copies: list[tuple[np.ndarray, np.ndarray]] | None = None,
          progress: Callable[[float], None] = lambda share: None) -> dict:
    """Encode and decode sounds, float32 [samples] each at the codec's rate, and measure the copies:
    the values of `compare` and `code_figures`; `latency_ms`; `encode_speed` and `decode_speed`, in
    seconds of audio per second.

    track_labels: of each sound, for a codec that was trained with labels. books: the number of a
    residual codec's codebooks to use; None: all. copies: a list that receives each copy, float32
    [samples], and its codes, int32 [frames, books].
    """
    config, track_labels = codec.config, track_labels or [None] * len(sounds)
    code_count, frames, seconds = config.codes_in_books(books), [], np.zeros(2)
    warm_up = codec.encode(sounds[0][None, : config.sample_rate], track_labels[0])
    codec.decode(warm_up, track_labels[0])

    def pairs():
        for done, (sound, label) in enumerate(zip(sounds, track_labels, strict=True)):
            progress(done / len(sounds))
            times = [time.perf_counter()]
            codes = codec.encode(sound[None], label)[..., :code_count]
            times.append(time.perf_counter())
            copy = codec.decode(codes, label)[0, : len(sound)]
            times.append(time.perf_counter())
            seconds[:] += np.diff(times)
            frames.append(codes[0])
            if copies is not None:
                copies.append((copy, codes[0]))
            yield sound, copy

    figures = compare(pairs(), config.sample_rate, embed)
    figures |= code_figures(config, np.concatenate(frames))
    figures["latency_ms"] = 1000.0 * codec.latency
    figures["encode_speed"], figures["decode_speed"] = map(
        float, figures["seconds"] / np.maximum(seconds, 1e-9))
    return figures


def compare(pairs: Iterable[tuple[np.ndarray, np.ndarray]], sample_rate: int,
            embed: fad.Embedder | None = None) -> dict:
    """The similarity of copies to their originals, from pairs (original, copy), float32 [samples]
    each: the means of `measure`, weighted by length, the values of `clarity.compare`, "distance"
    and "seconds". Values are None if all originals are silent; "distance" also without `embed`, and
    for fewer than two patches of audio.
    """
    rows, lengths, patches, clear, samples = [], [], [], [], 0
    for original, copy in pairs:
        samples += len(original)
        if np.var(original) <= metrics.SILENCE_POWER:
            continue  # the metrics are undefined for silence
        rows.append(measure(original, copy, sample_rate))
        lengths.append(len(original))
        clear.append([clarity.measure(sound, sample_rate) for sound in (original, copy)])
        if embed:
            patches.append((embed(original, sample_rate), embed(copy, sample_rate)))
    figures: dict = dict.fromkeys((metric.name for metric in (*METRICS, DISTANCE)), None)
    figures["seconds"] = samples / sample_rate
    if rows:
        figures |= {name: float(np.average([row[name] for row in rows], weights=lengths))
                    for name in rows[0]} | clarity.compare(*zip(*clear, strict=True))
    if sum(len(original) for original, _ in patches) >= 2:
        originals, copies = (np.concatenate(side) for side in zip(*patches, strict=True))
        figures["distance"] = fad.frechet(copies, originals)
    return figures


def code_figures(config: CodecConfig, codes: np.ndarray) -> dict:
    """`metrics.codebook_figures`, `bitrate_kbps` and the number of `codes`; {} for a VAE. codes:
    int [frames, books], of all books of the codec or of the first ones.
    """
    if not config.has_codes:
        return {}
    counts = metrics.histogram(codes, config.num_codes, config.codebook_of)
    return metrics.codebook_figures(counts) | {
        "bitrate_kbps": config.bitrate / 1000 * codes.shape[-1] / config.books,
        "codes": int(codes.size)}


def excerpts(data_dir, tracks: Sequence[manifest.Track], spans: dict[str, tuple[int, int]],
             seconds: float | None = None) -> list[tuple[manifest.Track, np.ndarray]]:
    """The audio for judging codecs: (track, float32 [samples]) of the tracks with sound, ordered by
    hash, up to `TOTAL_SECONDS`. Raises `UserError` if every track is silent.

    spans: {track file: (first sample, end)} without silent ends. seconds: of each track; None:
    `EXCERPT_SECONDS`, or more if there are few tracks.
    """
    seconds = seconds or max(EXCERPT_SECONDS, TOTAL_SECONDS / max(1, len(tracks)))
    chosen: list[tuple[manifest.Track, np.ndarray]] = []
    # In alphabetical order, the first albums would be over-represented.
    for track in sorted(tracks, key=lambda t: hashlib.sha256(t.sha256.encode()).digest()):
        rate, (first, end) = track.sample_rate, spans[track.file]
        left = round(TOTAL_SECONDS * rate) - sum(len(sound) for _, sound in chosen)
        count = min(round(seconds * rate), end - first, left)
        if count <= 0:
            continue
        start = min(first + (end - first) // 3, end - count)
        sound = audio.from_u16(audio.read_window(track.path(data_dir), start, count))
        if np.var(sound) > metrics.SILENCE_POWER:
            chosen.append((track, sound))
    if not chosen:
        raise UserError(f"{data_dir}: every track that codecs would be judged by is silent")
    return chosen


def find_shortfall(figures: dict, in_domain: dict | None = None) -> str:
    """The bounds that the values of `judge` miss, as text; "" if the codec suits the music.
    in_domain: its values on held-out tracks of its own corpus; what was not measured there does not
    count.
    """
    missed = []
    for metric in BOUNDED:
        value, own = figures[metric.name], (in_domain or {}).get(metric.name)
        seconds = min(figures["seconds"], (in_domain or figures)["seconds"])
        relative = in_domain and metric.in_domain
        if value is None or (relative and own is None) or (
                metric in (DISTANCE, *CLARITY) and seconds < LEAST_SECONDS):
            continue
        bound = metric.in_domain * own if relative else metric.bound
        if value < bound if metric.better == HIGHER else value > bound:
            missed.append(f"{metric.title} {value:.3g}, needs {bound:.3g}")
    return "; ".join(missed)


def add_verdict(weight_set: weights.WeightSet, figures: dict,
                in_domain: dict | None = None) -> dict:
    """The values of `judge` as a codec's row, with "model", "suitable" and "shortfall". in_domain:
    see `find_shortfall`; None: the values in the weights' record.
    """
    in_domain = in_domain or weight_set.record.get(IN_DOMAIN_KEY)
    shortfall = find_shortfall(figures, in_domain)
    return {"model": weight_set.name, **figures, "suitable": not shortfall, "shortfall": shortfall}


def judge_corpus(weight_sets: Sequence[weights.WeightSet], data_dir,
                 tracks: Sequence[manifest.Track], spans: dict[str, tuple[int, int]], *,
                 engine_name: str = "onnx", embed: fad.Embedder | None = None,
                 progress: Callable[[str, float], None] = lambda name, share: None,
                 record: bool = False) -> list[dict]:
    """Judge codecs on the same excerpts of held-out tracks: a row of `add_verdict` each.

    spans: see `excerpts`. progress: called with a codec's name and the share of its work done.
    record: save the values in the weights' records, as the values on the codecs' own corpus.
    """
    rate = tracks[0].sample_rate
    for weight_set in weight_sets:
        if weight_set.config.sample_rate != rate:
            raise UserError(f"{data_dir}: is at {rate} Hz, {weight_set.name} at "
                            f"{weight_set.config.sample_rate} Hz")
    audible, sounds = zip(*excerpts(data_dir, tracks, spans), strict=True)
    rows = []
    for weight_set in weight_sets:
        figures = judge(engine.CodecEngine(weight_set, engine_name), sounds, embed=embed,
                        track_labels=[labels.known_label(track, weight_set.config.labels)
                                      for track in audible],
                        progress=functools.partial(progress, weight_set.name))
        own = {m.name: figures[m.name] for m in (*METRICS, DISTANCE)} | {
            "seconds": figures["seconds"]} if record else None
        if own:
            weights.add_to_record(weight_set, **{IN_DOMAIN_KEY: own})
        rows.append(add_verdict(weight_set, figures, own))
    return rows


TABLE_COLUMNS = ("codec", *(metric.title for metric in BOUNDED), "verdict")


def row_cells(row: dict) -> tuple[str, ...]:
    """A row of `add_verdict` as text under `TABLE_COLUMNS`."""
    return (row["model"], *(metric.column.cell(row) for metric in BOUNDED),
            "suitable" if row["suitable"] else f"unsuitable: {row['shortfall']}")


def find_leaked(weight_set: weights.WeightSet, tracks: Iterable[manifest.Track]
                ) -> list[str] | None:
    """The names of the tracks that a model or its codecs were trained on; None if unknown."""
    trained_on = weight_set.trained_on
    return None if trained_on is None else [splits.track_name(t) for t in tracks
                                            if t.sha256[:16] in trained_on]


def leakage_warnings(weight_sets: Iterable[weights.WeightSet],
                     held_out: Sequence[manifest.Track]) -> list[str]:
    """A line for each model that was trained on some of the held-out tracks."""
    return [f"{x.name}{'' if isinstance(x.config, CodecConfig) else ', or its codec,'} was trained "
            f"on {len(leaked)} of the {len(held_out)} held-out tracks "
            f"({printable(first_names(leaked))}): its figures there say little about new music"
            for x in weight_sets if (leaked := find_leaked(x, held_out))]
