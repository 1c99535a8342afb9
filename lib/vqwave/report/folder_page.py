"""The results of training on a folder of music, compared with its held-out tracks, as one HTML page
with embedded pictures and sounds.
"""

import base64
import html
import io
import math
import string
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from .. import cli, plots, stderr
from ..data import codes
from ..dsp import clarity
from ..dsp.spectrum import log_spectrogram
from ..errors import UserError, first_names
from ..io import audio, manifest, splits
from ..io.files import atomic_write, check_place, make_folder, printable
from ..levels import TrainingConfig
from ..play import api
from ..progress import SilentReporter
from . import fad, health, judge, tables
from .copying import HELD_FRAMES, HELD_SECONDS, find_held, longest_shared

TEMPLATE = Path(__file__).with_suffix(".html")
STATIC = Path(__file__).parents[1] / "studio" / "static"
"""The folder of the studio's theme."""
SEEDS = (1, 2, 3)
NEAR, FAR = 1.25, 3.0
"""Generated music is near, or far, by its distance as a multiple of the training tracks'."""
LONG_COPY_SECONDS = 3.0
"""A copy is long if it is this much longer than the longest run shared by held-out music."""
REFERENCE_SECONDS = 600.0
"""The most seconds of held-out music to which distances are measured."""
EXAMPLE_SECONDS, HELD_OUT_SECONDS = 30.0, 20.0
"""The most of a sound example, and the least of one of held-out music, if a track is so long."""
CONTINUED_SECONDS, PROMPT_SECONDS = 20.0, 8.0
"""The length of a continuation, and of the prompt that it contains."""
PICTURE_WIDTH, PICTURE_DB = 600, 55.0
"""The most columns of a picture of a sound, and its range."""


@dataclass
class Results:
    """The measurements of a folder and its models. Without held-out tracks, training tracks replace
    them, and "training" and "held_out_seconds" are None.

    codecs: rows of `judge.add_verdict`. generators: rows of `training_figures`. pieces (by seed),
    continuation, original: float32 [samples]. distance: {"generated", "training", "seconds"},
    Fréchet distances to the held-out tracks, or None. clarity: of `clarity.compare`, of the pieces
    beside the held-out tracks. copies: rows of `_copies`. overlaps: of `judge.leakage_warnings`.
    health: of all pieces, joined. advice: sentences.
    """

    tracks: int
    hours: float
    held_out: int
    held_out_hours: float
    rate: int
    level: int
    codecs: list[dict] = field(default_factory=list)
    generators: list[dict] = field(default_factory=list)
    pieces: dict[int, np.ndarray] = field(default_factory=dict)
    continuation: np.ndarray | None = None
    original: np.ndarray | None = None
    distance: dict | None = None
    clarity: dict[str, float] = field(default_factory=dict)
    copies: list[dict] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    health: dict = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)


def measure(music: api.VQWave, data_dir, sides, spans, minutes: float = 2.0,
            embed: fad.Embedder | None = None,
            progress: Callable[[str, float], None] = lambda task, share: None) -> Results:
    """Measure how well a chain has learnt the music of a folder. sides, spans: of
    `silence.read_sides`. minutes: of music to generate, in a piece for each of `SEEDS`. embed: None
    leaves out distances.
    """
    train, held_out = sides
    rate, level = music.sample_rate, music.ending(None)
    if train[0].sample_rate != rate:
        raise UserError(f"{data_dir}: is at {train[0].sample_rate} Hz, but the chain at {rate} Hz")
    hours = [sum(spans[t.file][1] - spans[t.file][0] for t in side) / rate / 3600
             for side in (train, held_out)]
    results = Results(len(train), hours[0], len(held_out), hours[1], rate, level)
    levels = music.chain.down_to(level)
    # First, because this opens every model, and may fail.
    results.overlaps = judge.leakage_warnings([music.weight_set(names[x]) for x in levels for names
                                               in (music.chain.codecs, music.chain.generators)],
                                              held_out)
    reference = held_out or train
    sounds = [sound for _, sound in judge.excerpts(data_dir, reference, spans)]
    for i, x in enumerate(levels):
        progress("codecs", i / len(levels))
        results.codecs.append(judge.add_verdict(music.weight_set(music.chain.codecs[x]),
                                                judge.judge(music.codec(x), sounds, embed=embed)))
        results.generators.append(training_figures(
            music.weight_set(music.chain.generator(x)), train))
    frames = []
    for i, seed in enumerate(SEEDS):
        progress("generating", i / len(SEEDS))
        results.pieces[seed], codes_of = _generate(music, levels, 60 * minutes / len(SEEDS), seed)
        frames.append(codes_of)
    results.continuation = continue_track(music, data_dir, held_out, SEEDS[0])
    results.original = next((sound for sound in sounds if len(sound) >= HELD_OUT_SECONDS * rate),
                            max(sounds, key=len))
    pieces = list(results.pieces.values())
    joined = np.concatenate(pieces)
    progress("distances", 0.0)
    if embed:
        results.distance = _distances(
            embed, joined, _spread(data_dir, reference, spans, round(REFERENCE_SECONDS * rate)),
            _spread(data_dir, train, spans, len(joined)) if held_out else None, rate)
    results.clarity = clarity.compare(*([clarity.measure(sound, rate) for sound in side]
                                        for side in (sounds, pieces)))
    for i, x in enumerate(levels):
        progress("copies", i / len(levels))
        results.copies.append(_copies(music, data_dir, x, [codes_of[x] for codes_of in frames],
                                      sounds if held_out else None, train))
    results.health = health.measure(joined, rate)
    results.advice = list(advise(results)) or ["Nothing stands out. Listen, and add music if you "
                                               "wish for more."]
    return results


def continue_track(music: api.VQWave, data_dir, tracks: list[manifest.Track],
                   seed: int = 1) -> np.ndarray | None:
    """A continuation of the longest track, from a third of its length on: float32 [samples]. None
    without tracks, or if the prompt is silent.
    """
    if not tracks:
        return None
    track, top = max(tracks, key=lambda track: track.samples), music.chain.top
    count = round(min(PROMPT_SECONDS, track.seconds / 2) * music.sample_rate) // top * top
    prompt = audio.from_u16(audio.read_window(track.path(data_dir), track.samples // 3 // top * top,
                                              count))
    if not count or np.abs(prompt).max() < api.SILENT:
        return None
    level = music.ending(None)
    return music.generate(level=level, seconds=CONTINUED_SECONDS, seed=seed,
                          begin=music.prompt(prompt, level=level))


def training_figures(weight_set, tracks: Sequence[manifest.Track]) -> dict:
    """The record of a generator's training: bits per held-out frame before the first step and at
    the best "epoch"; "unseen", the names of the tracks that it was not trained on.
    """
    record, bits = weight_set.record, weight_set.config.books / math.log(2)
    before, loss = record.get("beginning"), record.get("validation_loss")
    return {"model": weight_set.name, "epoch": record.get("epoch"),
            "bits": None if loss is None else loss * bits,
            "before": None if before is None else before * bits,
            "unseen": [splits.track_name(track) for track in weight_set.unseen(tracks)]}


def _generate(music, levels, seconds, seed):
    """A piece float32 [samples], and its codes by level."""
    with music.stream(level=levels[-1], seconds=seconds, seed=seed) as stream:
        blocks, codes_of = zip(*((block, stream.codes) for block in stream), strict=True)
    return np.concatenate(blocks), {x: np.concatenate([part[x] for part in codes_of])
                                    for x in levels}


def _spread(data_dir, tracks: Sequence[manifest.Track], spans, samples: int) -> np.ndarray:
    """The middle of each track: equally long parts, about `samples` samples together."""
    parts, longest = [], -(-samples // len(tracks))
    for track in tracks:
        first, end = spans[track.file]
        count = min(end - first, longest)
        start = first + (end - first - count) // 2
        parts.append(audio.from_u16(audio.read_window(track.path(data_dir), start, count)))
    return np.concatenate(parts)


def _distances(embed, generated, held_out, train, rate) -> dict | None:
    """Fréchet distances to held-out music; None if a side is too short. train: audio, or None."""
    sides = [embed(sound, rate) for sound in (held_out, generated, train) if sound is not None]
    if min(map(len, sides)) < 2:
        return None
    reference, *others = sides
    distances = [fad.frechet(side, reference) for side in others]
    return {"generated": distances[0], "training": distances[1] if distances[1:] else None,
            "seconds": len(held_out) / rate}


def _copies(music, data_dir, level, pieces, held_out, train) -> dict:
    """The longest runs that the pieces, and held-out music, share with the training tracks as they
    were augmented: {"level", "seconds", "held_out_seconds", "transpose": semitones}. Held sounds do
    not count.
    """
    stderr.import_keras()
    from ..codecs import codec_layer

    generator = music.weight_set(music.chain.generator(level))
    training, config = generator.training or TrainingConfig(), generator.config
    variants = codes.variants(training.offsets, training.transpose, config.source_level or level,
                              training.gain)
    versions = [(t, v) for t in train for v in variants if v.samples(t) > 2 * level]
    encoded = codes.encode_corpus(data_dir, versions, music.weight_set(music.chain.codecs[level]),
                                  SilentReporter(), codec_layer.load_encoder)
    corpus = [codes.read_frames(path, 0, count, config.books) for path, count in encoded]
    length = max(2, round(HELD_SECONDS * music.sample_rate / level))

    def longest(side):
        runs = [longest_shared(frames, corpus, find_held(frames, length, HELD_FRAMES))
                for frames in side]
        return max(runs) * level / music.sample_rate

    by_chance = longest(music.encode(sound, level) for sound in held_out) if held_out else None
    return {"level": level, "seconds": longest(pieces), "held_out_seconds": by_chance,
            "transpose": training.transpose}


def advise(results: Results) -> Iterator[str]:
    """Sentences on what to try next."""
    train = cli.command("train")
    if not results.held_out:
        yield ("Nothing was held out, so every figure is of training tracks: it cannot distinguish "
               "learning from memorising. Add a track.")
    if results.overlaps:
        yield ("Some models were trained on held-out tracks: use the --val-split that they were "
               "trained with.")
    for row in results.codecs:
        if not row["suitable"]:
            yield (f"{row['model']} loses much of this music ({row['shortfall']}). With hours of "
                   f"music, {train} --from-scratch trains a new one.")
    for row in results.generators:
        if row["unseen"]:
            yield (f"{row['model']} was not trained on {len(row['unseen'])} of the "
                   f"{results.tracks} tracks ({printable(first_names(row['unseen']))}): {train} "
                   f"with --start-from this folder and another --output-dir learns them.")
        if row["epoch"] == 0:
            yield (f"{row['model']} did not improve: no epoch was better on held-out tracks. More "
                   f"music helps, more time does not.")
    ratio = _distance_ratio(results)
    if ratio and ratio > FAR:
        yield (f"Generated music is {ratio:.1f} times as far from the held-out tracks as the "
               f"training tracks are: more music of its kind helps.")
    for row in results.copies:
        if _is_long(row):
            shift = "" if row["transpose"] else "transposition (--transpose 3), "
            yield (f"At {row['level']}x {row['seconds']:.1f} s are copied from a training track: "
                   f"more music, {shift}or a higher temperature make copies rarer.")
    for fault in health.find_faults(results.health):
        yield f"The pieces have a fault: {fault}. Another temperature may help."


def _distance_ratio(results: Results) -> float | None:
    """The distance of generated music, as a multiple of the training tracks' distance."""
    distance = results.distance or {}
    return distance["generated"] / distance["training"] if distance.get("training") else None


def check(path) -> Path:
    """The path of a page, in a folder that is created if missing. Raises as `check_place`."""
    make_folder(Path(path).parent)
    return check_place(path)


def write(results: Results, path, name: str, runs_dir=None, models: Sequence[str] = ()):
    """Write the page. name: of the corpus. runs_dir: with the training logs of `models`."""
    path = check(path)
    logs = plots.logs(runs_dir, models) if runs_dir else {}
    with atomic_write(path) as f:
        f.write(_render(results, name, logs).encode())


def verdict(results: Results) -> str:
    """The result in one sentence, for the top of the page."""
    ratio, faults = _distance_ratio(results), health.find_faults(results.health)
    copied = max((row["seconds"] for row in results.copies if _is_long(row)), default=0.0)
    near = "as close to" if ratio and ratio <= NEAR else f"{ratio or 0:.1f} times as far from"
    parts = [f"keeps {row['notes']:.0%} of the notes" for row in results.codecs[-1:]
             if row.get("notes") is not None]
    parts += [f"makes music {near} them as your other tracks are"] * bool(ratio)
    parts += [f"copies up to {copied:.0f} s of a track" if copied else "copies no long passage"]
    parts += [f"has a fault: {fault}" for fault in faults[:1]]
    heard = " that it has never heard" if results.held_out and not results.overlaps else ""
    told = " and ".join([*filter(None, [", ".join(parts[:-1])]), parts[-1]])
    return f"On pieces of yours{heard}, it {told}."


def _is_long(row: dict) -> bool:
    """Whether a row of `Results.copies` is a long copy."""
    return row["seconds"] > (row["held_out_seconds"] or 0.0) + LONG_COPY_SECONDS


def _render(results: Results, name: str, logs: dict[str, Path]) -> str:
    escape, held_out, first = html.escape, results.held_out, min(results.pieces, default=None)
    clips = {"Your music": results.original,
             "A new piece": None if first is None else results.pieces[first],
             f"Your music, continued after {PROMPT_SECONDS:.0f} s": results.continuation}
    others = {f"A new piece, seed {seed}": piece for seed, piece in results.pieces.items()
              if seed != first}
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        name=escape(name), tracks=results.tracks, minutes=f"{60 * results.hours:.0f}",
        style=(STATIC / "studio.css").read_text(encoding="utf-8"),
        script=(STATIC / "theme.js").read_text(encoding="utf-8"), verdict=escape(verdict(results)),
        held_out=f"Held-out tracks, measured below: {held_out} "
                 f"({60 * results.held_out_hours:.0f} min)." if held_out else
                 "Nothing was held out, so all figures are of training tracks.",
        level=results.level, overlaps="".join(f"<p>{escape(x)}.</p>" for x in results.overlaps),
        clips=_clips(clips, results.rate), pieces=_clips(others, results.rate),
        distance=_distance_text(results), reference=_reference(results),
        clarity=_table([results.clarity], [metric.column for metric in judge.CLARITY]),
        chance="Held-out music shows how much is shared by chance." if held_out else "",
        copies=_table(results.copies, COPIES),
        codecs=_table(map(judge.row_cells, results.codecs), judge.TABLE_COLUMNS),
        generators=_table(results.generators, GENERATOR_COLUMNS), curves=_curves(logs),
        advice="".join(f"<li>{escape(line)}</li>" for line in results.advice))


def _table(rows, columns) -> str:
    """A table that scrolls by itself where the window is narrow, of the columns with values."""
    rows = list(rows)
    if isinstance(columns[0], tables.Column):
        columns = [x for x in columns if any(x.cell(row) != tables.EMPTY for row in rows)]
    if not rows or not columns:
        return ""
    return f'<div class="scroll" tabindex="0">{tables.render(rows, columns, "html")}</div>'


COPIES = (tables.Column("samples per frame", "level"),
          tables.Column("generated pieces (s)", "seconds", ".2f"),
          tables.Column("held-out music (s)", "held_out_seconds", ".2f"))
GENERATOR_COLUMNS = (
    tables.Column("generator", "model"), tables.Column("bits a frame before", "before", ".2f"),
    tables.Column("best", "bits", ".2f"), tables.Column("epoch", "epoch"))


def _clips(clips: dict[str, np.ndarray | None], rate: int) -> str:
    """A picture and a player for each of {caption: float32 [samples]}."""
    return "\n".join(f"<figure><figcaption>{caption}</figcaption>{_spectrum(caption, clip, rate)}"
                     f"{_sound(caption, clip, rate)}</figure>"
                     for caption, samples in clips.items() if samples is not None
                     for clip in [samples[: round(EXAMPLE_SECONDS * rate)]])


def _spectrum(caption: str, samples: np.ndarray, rate: int) -> str:
    """The spectrogram of a sound, in the studio's colours."""
    from matplotlib.image import imsave

    picture, file = log_spectrogram(samples, rate), io.BytesIO()
    picture = picture[:, :: -(-picture.shape[1] // PICTURE_WIDTH)]
    faintest = max(picture.max(), 1e-9) * 10 ** (-PICTURE_DB / 20)
    imsave(file, np.log(np.maximum(picture, faintest)), cmap="magma", origin="lower", format="png")
    return f'<img alt="The notes of: {caption}" src="{_data_url("image/png", file.getvalue())}">'


def _reference(results: Results) -> str:
    return "the held-out music" if results.held_out else "the training tracks"


def _distance_text(results: Results) -> str:
    if not results.distance:
        return ("Distances were not measured: the network for them could not be downloaded, "
                "or there is too little music.")
    text = (f"Fréchet distance to {results.distance['seconds']:.0f} s of {_reference(results)}: "
            f"generated music {results.distance['generated']:.1f}")
    if results.distance["training"] is not None:
        text += f", training tracks {results.distance['training']:.1f}"
    ratio = _distance_ratio(results)
    return text + (f", {ratio:.1f} times as far. " if ratio else ". ") + fad.DEAF


def _curves(logs: dict[str, Path]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.png"
        if not plots.training_curves(logs, path):
            return ""
        url = _data_url("image/png", path.read_bytes())
    return f'<img class="plot" alt="Training curves" src="{url}">'


def _sound(caption: str, samples: np.ndarray, rate: int) -> str:
    mp3, file = rate in audio.MP3_RATES, io.BytesIO()
    soundfile.write(file, samples, rate, format="MP3" if mp3 else "OGG")
    url = _data_url("audio/mpeg" if mp3 else "audio/ogg", file.getvalue())
    return f'<audio controls preload="metadata" aria-label="{caption}" src="{url}"></audio>'


def _data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
