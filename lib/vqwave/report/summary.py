"""What came of training on a folder of music, on one page: `report.html`, pictures and sounds
inside.

A quick look that needs nothing but the folder's own split: minutes of generated music against the
tracks that were held out. `evaluation` measures in full.
"""

from __future__ import annotations

import base64
import html
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .. import cli, plots, stderr
from ..config import TrainingConfig
from ..data import codes
from ..dsp import notes
from ..errors import UserError
from ..io import audio, manifest, silence, splits
from ..io.files import atomic_write, printable
from ..play import api, listening
from ..progress import SilentReporter
from . import fad, health, judge, media, tables
from .copying import HELD_FRAMES, HELD_SECONDS, find_held, longest_shared
from .media import EXAMPLE_SECONDS, Gallery

SEEDS = (1, 2, 3)
SHORTEST = 5.0
"""Seconds: what notes' statistics, and what is copied, are asked of."""
FAR = 3.0
"""A multiple of real music's own distance: more is far."""
LONG_COPY = 3.0
"""Seconds that may be copied beyond what held-out music has in common with the training tracks."""
REFERENCE = 600.0
"""Seconds of held-out music, at most, that distances are measured to."""
BIT_RATE = 64000


@dataclass
class Summary:
    """What was measured of a folder and its models.

    codecs: rows of `judge.add_verdict`; before: the same of those that were tuned, from before;
    generators: rows of `learnt` with "unheard", the names of training tracks that came later;
    pieces, continuation, original: sounds float32 [samples]; distance: {"made", "real", "seconds"},
    Fréchet distances of generated and of training music to the held-out tracks, or None;
    statistics: {"made", "real": divergences}, or None; copies: rows {"level", "seconds",
    "held_out_seconds", "transpose": semitones that it was trained with};
    overlaps: sentences about models that know held-out tracks, which began elsewhere or under
    another split; vitals: of all pieces one after the other; advice: what to try next, in
    sentences. Where nothing is held out the training tracks stand in for that, and "real" and
    "held_out_seconds" are None.
    """

    tracks: int
    hours: float
    held_out: int
    held_out_hours: float
    rate: int
    level: int
    codecs: list[dict] = field(default_factory=list)
    before: list[dict] = field(default_factory=list)
    generators: list[dict] = field(default_factory=list)
    pieces: dict[int, np.ndarray] = field(default_factory=dict)
    continuation: np.ndarray | None = None
    original: np.ndarray | None = None
    distance: dict | None = None
    statistics: dict | None = None
    copies: list[dict] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    vitals: dict = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)


def measure(music: api.VQWave, data_dir, sides, spans, minutes: float = 2.0,
            embed: fad.Embedder | None = None,
            progress: Callable[[str, float], None] = lambda what, share: None) -> Summary:
    """Measure what a chain has learnt of a folder.

    Args:
        sides, spans: what trains and what is held out, as `silence.read_sides` has it; where
            nothing is held out the training tracks stand in for it.
        minutes: of music that is generated, in pieces of as many seeds as `SEEDS`.
        embed: None leaves distances out.

    Raises:
        UserError: a model is missing, or the music is of another rate.
    """
    train, held_out = sides
    rate, level = music.sample_rate, listening.playable_level(music)
    if train[0].sample_rate != rate:
        raise UserError(f"{data_dir}: is at {train[0].sample_rate} Hz, but the chain at {rate} Hz")
    hours = [sum(spans[t.file][1] - spans[t.file][0] for t in side) / rate / 3600
             for side in (train, held_out)]
    made = Summary(len(train), hours[0], len(held_out), hours[1], rate, level)
    levels = [x for x in music.chain.sizes if x >= level]
    # First of all, so that a model that is not there is missed before anything takes time.
    made.overlaps = judge.leakage_warnings([music.weight_set(one[x]) for x in levels for one in
                                      (music.chain.codecs, music.chain.generators)], held_out)
    other = held_out or train
    sounds = _excerpts(data_dir, other, spans)
    for done, x in enumerate(levels):
        progress("codecs", done / len(levels))
        made.codecs.append(judge.add_verdict(music.weight_set(music.chain.codecs[x]),
                                          judge.judge(music.codec(x), sounds, embed=embed)))
        generator = music.weight_set(music.chain.generator(x))
        made.generators.append(learnt(generator) | {
            "unheard": [splits.track_name(track) for track in generator.unseen(train)]})
    seconds = 60 * minutes / len(SEEDS)
    generated = {}
    for done, seed in enumerate(SEEDS):
        progress("generating", done / len(SEEDS))
        generated[seed] = _generate(music, level, levels, seconds, seed)
    made.pieces = {seed: sound for seed, (sound, _) in generated.items()}
    heard = listening.hear(music, data_dir, held_out, SEEDS[0])
    made.continuation, made.original = heard.get("continuation"), sounds[0]
    every = np.concatenate(list(made.pieces.values()))
    progress("how near", 0.0)
    if embed:
        made.distance = _distances(
            embed, every, _spread(data_dir, other, spans, round(REFERENCE * rate)),
            _spread(data_dir, train, spans, len(every)) if held_out else None, rate)
    made.statistics = _statistics(list(made.pieces.values()), sounds,
                                  _excerpts(data_dir, train, spans) if held_out else None,
                                  rate)
    for done, x in enumerate(levels):
        progress("what is copied", done / len(levels))
        made.copies.append(_copies(music, data_dir, x, [one[x] for _, one in generated.values()],
                                   sounds if held_out else None, train))
    made.vitals = health.vitals(every, {}, rate)
    made.advice = advise(made)
    return made


def _excerpts(data_dir, tracks, spans):
    return [sound for _, sound in judge.excerpts(data_dir, tracks, spans)]


def learnt(found) -> dict:
    """What a generator's set says of its training: bits a frame of held-out tracks."""
    record, bits = found.record, found.config.books / math.log(2)
    before, loss = record.get("beginning"), record.get("validation_loss")
    return {"model": found.name, "epoch": record.get("epoch"),
            "bits": None if loss is None else loss * bits,
            "before": None if before is None else before * bits}


def _generate(music, level, levels, seconds, seed):
    """A piece float32 [samples], and its codes by level."""
    blocks, made = [], {x: [] for x in levels}
    with music.stream(level=level, seconds=seconds, seed=seed) as stream:
        for block in stream:
            blocks.append(block)
            for x in levels:
                made[x].append(stream.codes[x])
    return np.concatenate(blocks), {x: np.concatenate(values) for x, values in made.items()}


def _spread(data_dir, tracks: Sequence[manifest.Track], spans, samples: int) -> np.ndarray:
    """The middle of what sounds of each track, as much of each, about `samples` in all."""
    parts, each = [], -(-samples // len(tracks))
    for track in tracks:
        first, end = spans[track.file]
        count = min(end - first, each)
        start = first + (end - first - count) // 2
        parts.append(audio.from_u16(audio.read_window(track.path(data_dir), start, count)))
    return np.concatenate(parts)


def _distances(embed, made, held_out, train, rate) -> dict | None:
    """Fréchet distances to held-out music; None where there is too little of one. train: None
    leaves out how far that is.
    """
    sides = [embed(sound, rate) for sound in (held_out, made, train) if sound is not None]
    if min(map(len, sides)) < 2:
        return None
    other, made_patches, *own = sides
    return {"made": fad.frechet(made_patches, other),
            "real": fad.frechet(own[0], other) if own else None, "seconds": len(held_out) / rate}


def _statistics(pieces, held_out, train, rate) -> dict | None:
    """How far the notes of generated, and of training, music are from held-out music's; None where
    there is too little. train: None leaves out how far that is.
    """
    portraits = []
    for side in (held_out, pieces, *([] if train is None else [train])):
        long = [sound for sound in side if len(sound) >= SHORTEST * rate]
        if not long:
            return None
        portraits.append(notes.average([notes.portrait(sound[: round(judge.EXCERPT_SECONDS * rate)],
                                                       rate) for sound in long]))
    real, made, *own = portraits
    return {"made": notes.divergences(real, made),
            "real": notes.divergences(real, own[0]) if own else None}


def _copies(music, data_dir, level, pieces, held_out, train) -> dict:
    """The longest run of moving codes that the pieces share with the training tracks as they were
    trained on, and that held-out music, where there is some, shares with them.
    """
    stderr.import_keras()
    from ..nn import codec

    found = music.weight_set(music.chain.generator(level))
    settings, config = found.training or TrainingConfig(), found.config
    variants = codes.variants(settings.offsets, settings.transpose, config.source_level or level,
                              settings.gain)
    wanted = [(t, v) for t in train for v in variants if v.samples(t) > 2 * level]
    encoded = codes.encode_corpus(data_dir, wanted, music.weight_set(music.chain.codecs[level]),
                                  SilentReporter(), codec.load_encoder)
    corpus = [codes.read_frames(path, 0, count, config.books) for _, _, (path, count) in encoded]
    if config.books == 1:
        corpus = [one[:, 0] for one in corpus]
    length = max(2, round(HELD_SECONDS * music.sample_rate / level))

    def longest(side):
        runs = [longest_shared(one, corpus, find_held(one, length, HELD_FRAMES)).length
                for one in side]
        return max(runs) * level / music.sample_rate

    by_chance = longest(music.encode(sound, level) for sound in held_out) if held_out else None
    return {"level": level, "seconds": longest(pieces), "held_out_seconds": by_chance,
            "transpose": settings.transpose}


def advise(made: Summary) -> list[str]:
    """What to try next, in sentences."""
    said = []
    if not made.held_out:
        said.append("Nothing was held out, so every figure here is of music that was trained on: "
                    "it cannot tell learning from learning by heart. Add a track.")
    if made.overlaps:
        said.append("Models know some of the held-out tracks: with the --val-split that they were "
                    "trained with, figures are of tracks that they do not know.")
    for row in made.codecs:
        if not row["suitable"]:
            said.append(f"{row['model']} loses much of this music ({row['shortfall']}): "
                        f"{cli.command('train')} with --hours 3 or more and another --output-dir "
                        f"tunes the whole of it, with --from-scratch, where there are hours of "
                        f"music, it makes one for it.")
    for row in made.generators:
        if row["unheard"]:
            names = ", ".join(map(printable, row["unheard"][:judge.NAMED_TRACKS]))
            more = ", …" * (len(row["unheard"]) > judge.NAMED_TRACKS)
            said.append(f"{row['model']} was not trained on {len(row['unheard'])} of the "
                        f"{made.tracks} tracks ({names}{more}): {cli.command('train')} with "
                        f"--start-from this folder and another --output-dir learns them.")
        if row["epoch"] == 0:
            said.append(f"{row['model']} is as it began: no epoch was better on held-out tracks. "
                        f"More music helps, more time does not.")
    if made.distance and (made.distance["real"] or 0.0) > 0:
        times = made.distance["made"] / made.distance["real"]
        if times > FAR:
            said.append(f"What is generated is {times:.1f} times as far from the held-out tracks "
                        f"as the training tracks are: more music of its kind helps.")
    for row in made.copies:
        if row["seconds"] > (row["held_out_seconds"] or 0.0) + LONG_COPY:
            shift = "" if row["transpose"] else "transposition (--transpose 3), "
            said.append(f"At {row['level']}x {row['seconds']:.1f} s are copied from a training "
                        f"track: more music, {shift}or a higher temperature make copies rarer.")
    said += [f"The pieces, one after the other, are not healthy: {words}. Another temperature may "
             f"help." for words in health.ailments(made.vitals)]
    return said or ["Nothing stands out. Listen, and add music if you wish for more."]


def copies_table(made: Summary) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The head and the rows of what is copied, in words."""
    return ("copied, at", "generated", "held-out music"), [
        (f"{row['level']}x", *("–" if row[key] is None else f"{row[key]:.2f} s"
                               for key in ("seconds", "held_out_seconds"))) for row in made.copies]


# --------------------------------------------------------------------------------------- as a page


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #ccc; text-align: right; }
th:first-child, td:first-child { text-align: left; }
img, audio { width: 100%; }
figure { margin: 1rem 0; }
@media (prefers-color-scheme: dark) {
  body { color: #eee; background: #161616; } th, td { border-color: #444; } }
"""


def write(made: Summary, path, name: str, runs_dir=None, names: Sequence[str] = ()):
    """Write the page, all or nothing.

    Args:
        name: of the corpus. runs_dir: the folder of the training logs of `names`, whose curves are
            drawn.

    Raises:
        UserError: it cannot be written there.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{printable(path)}: is a folder; name a file")
    with tempfile.TemporaryDirectory() as folder:
        page = _page(made, name, Gallery(Path(folder), made.rate), runs_dir, names)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as f:
            f.write(page.encode())
    except OSError as e:
        raise UserError(f"{printable(path)}: cannot be written: {e.strerror}") from e


class _Body:
    """The body of a page, part by part. Pictures and sounds are embedded."""

    def __init__(self, gallery: Gallery, rate: int):
        self.gallery, self.rate = gallery, rate
        self.parts: list[str] = []

    def heading(self, text: str):
        self.parts.append(f"<h2>{html.escape(text)}</h2>")

    def paragraph(self, text: str):
        self.parts.append(f"<p>{html.escape(text)}</p>")

    def table(self, head, rows):
        self.parts.append(tables.render(rows, head, "html"))

    def picture(self, file, alt: str, draw, *arguments, **options):
        self.gallery.picture(file, draw, *arguments, **options)
        path = self.gallery.folder / file
        if path in self.gallery.written:
            data = base64.b64encode(path.read_bytes()).decode()
            self.parts.append(f'<figure><img alt="{html.escape(alt)}" '
                              f'src="data:image/png;base64,{data}"></figure>')

    def sound(self, caption: str, samples):
        mp3 = self.rate in media.MP3_RATES
        data = media.encode_file(samples, self.rate, "libmp3lame" if mp3 else "libopus", BIT_RATE)
        kind = "audio/mpeg" if mp3 else "audio/ogg"
        self.parts.append(
            f"<figure><figcaption>{html.escape(caption)}</figcaption><audio controls "
            f'src="data:{kind};base64,{base64.b64encode(data).decode()}"></audio></figure>')


def _page(made: Summary, name: str, gallery: Gallery, runs_dir, names) -> str:
    body = _Body(gallery, made.rate)
    held_out = (f"Held out, and measured below: {made.held_out} "
                f"({60 * made.held_out_hours:.0f} min)." if made.held_out else
                "None was held out, so the figures are of music that was trained on.")
    body.paragraph(f"Tracks to train on: {made.tracks} ({60 * made.hours:.0f} min). {held_out} "
                   f"The chain plays down to {made.level}x.")
    for line in made.overlaps:
        body.paragraph(f"{line}.")
    _add_pieces(body, made)
    _add_nearness(body, made)
    body.heading("What is copied")
    chance = "; held-out music shows how much is alike by chance" if made.held_out else ""
    body.paragraph(f"The longest passage that also stands in a training track, code for code, "
                   f"apart from held sounds{chance}:")
    body.table(*copies_table(made))
    body.heading("Codecs")
    body.table(judge.COLUMNS, map(judge.row_cells, [*made.before, *made.codecs]))
    _add_training(body, made, runs_dir, names)
    body.heading("What to try next")
    advice = "".join(f"<li>{html.escape(line)}</li>" for line in made.advice)
    title = html.escape(f"VQWave: {name}")
    return (f"<!doctype html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport "
            f'content="width=device-width"><title>{title}</title><style>{STYLE}</style></head>'
            f"<body><h1>{title}</h1>\n" + "\n".join([*body.parts, f"<ul>{advice}</ul>"])
            + "\n</body></html>\n")


def _add_pieces(body: _Body, made: Summary):
    body.heading("Three pieces")
    pieces = {f"seed {seed}": samples for seed, samples in made.pieces.items()}
    for caption, samples in pieces.items():
        body.sound(caption, samples)
    body.picture("pieces.png", "Waveform and spectrogram of the pieces", plots.spectrograms,
                 pieces, sample_rate=made.rate)
    if made.continuation is not None:
        body.sound("a held-out track, continued after its first seconds", made.continuation)
    if made.original is not None:
        body.sound("the music itself", made.original)
        pieces["the music itself"] = made.original
    body.picture("notes.png", "Piano rolls of the pieces and of the music itself", plots.notes, {
        caption: notes.roll(samples[: round(EXAMPLE_SECONDS * made.rate)], made.rate, columns=400)
        for caption, samples in pieces.items()})


def _add_nearness(body: _Body, made: Summary):
    body.heading("How near")
    music = "held-out music" if made.held_out else "the tracks that it was trained on"
    if made.distance:
        real, seconds = made.distance["real"], made.distance["seconds"]
        words = (f"Fréchet distance to {seconds:.0f} s of {music}: {made.distance['made']:.1f} of "
                 f"generated music")
        words += "" if real is None else f", {real:.1f} of the training tracks"
        ratio = f"; {made.distance['made'] / real:.1f} times as far." if real and real > 0 else "."
        body.paragraph(words + ratio)
    else:
        body.paragraph("Distances were not measured: the network that compares recordings is not "
                       "here, or there is too little music.")
    if made.statistics:
        body.paragraph(f"How far the use of notes is from that of {music}, in bits (0 is alike, 1 "
                       f"is not), and notes a second of the strongest line:")
        body.table(("", *notes.STATISTICS, "notes a second"), [
            (label, *(f"{made.statistics[key][name]:.3f}" for name in notes.STATISTICS),
             f"{made.statistics[key]['line']:.1f}")
            for label, key in (("generated", "made"), ("training tracks", "real"))
            if made.statistics[key]])


def _add_training(body: _Body, made: Summary, runs_dir, names):
    body.heading("Training")
    body.table(("generator", "bits a frame before", "best", "epoch"), [
        (row["model"], *("–" if row[key] is None else f"{row[key]:.2f}"
                         for key in ("before", "bits")),
         "–" if row["epoch"] is None else str(row["epoch"])) for row in made.generators])
    body.paragraph("Bits are of the validation tracks, which chose the epoch.")
    if runs_dir and (logs := plots.logs(runs_dir, names)):
        body.picture("training.png", "Training curves", plots.training_curves, logs)


def sides_of(data_dir, split, seed: int, trim_silence: float | None, final: bool = False):
    """What trains and what a page is of, with its spans: what validates or, of a `final` page, the
    test tracks of a split that names some. trim_silence: see `silence.read_sides`.
    """
    (train, held_out), spans = silence.read_sides(data_dir, split, seed, trim_silence,
                                                  SilentReporter())
    tested = getattr(split, "test", ()) if final else ()
    if tested:
        named = [t for t in manifest.read(data_dir) if splits.is_named(t, tested)]
        spans |= {t.file: (0, t.samples) for t in named}
        held_out = named
    return (train, held_out), spans
