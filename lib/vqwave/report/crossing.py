"""Codecs side by side: several folders of codecs, each measured on the corpora of its sample rate,
and a section of RESULTS.md that shows it.

`other_music`: on music that they were not trained on; trained on one corpus and tested on the other
is the control for codecs that were trained on both. `family`: of several presets, on the same
music.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from .. import machine, plots
from ..config import DataConfig
from ..dsp import metrics
from ..errors import UserError
from ..io import audio, labels, manifest, weights
from ..io.files import atomic_write, make_folder
from ..io.splits import read_split, track_name
from ..play import engine, latents
from . import benchmark, fad, maps, report, serving, slices, summary
from .parts.codecs import baseline_name, recode
from .parts.part import Gallery, Page, spread, table
from .reconstruction import block_speed, figures_of_codes

LISTEN = 10.0
"""Seconds of an example."""
TRACKS = 4
"""Of so many tracks, at most, the waveforms of a VAE are drawn before and after."""

COLUMNS = (("kbit/s", "kbps", ".2f"), ("notes kept", "notes", ".3f"), ("chroma", "chroma", ".3f"),
           ("SC dB", "sc_db", ".2f"), ("mel", "mel", ".3f"), ("SI-SDR dB", "si_sdr_db", ".2f"),
           ("distance", "distance", ".1f"), ("perplexity", "perplexity", ".0f"),
           ("latency ms", "latency_ms", ".0f"), ("blocks ×", "block_speed", ".1f"))

GUIDE = "<!-- compare_codecs.py -->", "<!-- compare_codecs.py: end -->"
OUTLINED = [column for column in COLUMNS
            if column[1] in ("kbps", "notes", "sc_db", "mel", "distance")]
"""What stands in a section's guide, of `COLUMNS`."""


@dataclass(frozen=True)
class Section:
    """A section of RESULTS.md that compares codecs.

    about: what stands first. folder: of docs/results, where its sounds and pictures are; "" has
    none. guide: the page of docs/ that has a row of figures and a sound for each codec; "" none.
    baselines: (name, encoder, bits a second) of FFmpeg's codecs to measure beside them.
    wanted: what figures are held to or stand beside, a sentence by what codecs are called.
    """

    title: str
    about: str
    folder: str = ""
    guide: str = ""
    baselines: Sequence[tuple[str, str, int]] = ()
    wanted: Mapping[str, str] = field(default_factory=dict)


_OF = (f"of {serving.EXCERPT:g} s of each test track, at most {serving.MOST:g} s of a corpus. "
       "Where a cell has brackets, it is the mean of several trainings that differ in their seed. "
       "Perplexity: of how many codes, as often as each other, a codebook's use is worth; the mean "
       "of its codebooks. Blocks: how many times faster than it plays a codec encodes and decodes "
       "music frame by frame, in one thread. Steps: after how many of those planned training was "
       "best on the validation tracks.")
SECTIONS = {
    "other_music": Section(
        "codecs on other music",
        f"What codecs that were trained on one corpus, or on several, keep of each: {_OF} The "
        f"codecs of another corpus are the control."),
    "family": Section(
        "the family of codecs",
        f"What the codecs of each preset ([docs/family.md](docs/family.md)) keep: {_OF}", "family",
        "family.md", (("Opus", "libopus", 6000),),
        {"soundstream": "soundstream is held to a mel of at most 0.635, half of the 1.27 of Opus "
                        "at 6 kbit/s, 0.7 of the notes kept, a distance below 41, a latency of at "
                        "most 50 ms and blocks faster than real time.",
         "jukebox": "Jukebox's own paper (Dhariwal et al. 2020) has a spectral convergence of "
                    "−23.0 dB at 8x, −12.4 dB at 32x and −8.3 dB at 128x, at 44,100 Hz and on its "
                    "own data: a reference beside the SC of jukebox here."}),
}


@dataclass(frozen=True)
class Corpus:
    """A data folder and the tracks that codecs are measured on.

    spans: (first sample, end) of what counts, by track file.
    """

    name: str
    data_dir: Path
    tracks: Sequence[manifest.Track]
    spans: dict[str, tuple[int, int]]

    @classmethod
    def of(cls, data_dir, split, final: bool = True) -> Corpus:
        """Of a data folder, by the path of its `split.yml`. final: its test tracks, else those that
        validate.

        Raises:
            UserError: the split leaves none.
        """
        (_, held_out), spans = summary.sides_of(data_dir, read_split(split), 0,
                                                DataConfig().trim_silence, final)
        if not held_out:
            raise UserError(f"{split}: holds no track out to measure codecs on")
        return cls(Path(data_dir).resolve().name, Path(data_dir), held_out, spans)

    @property
    def rate(self) -> int:
        """Hz."""
        return self.tracks[0].sample_rate

    @cached_property
    def heard(self) -> list[tuple[manifest.Track, np.ndarray]]:
        """What codecs are measured on: see `serving.excerpts_of`."""
        return serving.excerpts_of(self.data_dir, self.tracks, self.spans, serving.EXCERPT)

    @property
    def excerpts(self) -> list[np.ndarray]:
        """The sounds of `heard`."""
        return [sound for _, sound in self.heard]

    def told(self, config) -> list[str | None]:
        """What a codec is told of each of them: see `labels.told`."""
        return [labels.told(track, config.labels) for track, _ in self.heard]


@dataclass(frozen=True)
class Named:
    """A codec and what its folder is called in the table; several of one name differ in their
    seed.
    """

    name: str
    weight_set: weights.WeightSet

    @property
    def rate(self) -> int:
        return self.weight_set.config.sample_rate


@dataclass(frozen=True)
class Piece:
    """What the generators over some codecs made: a sound file, and whose it is.

    model: the generator; bits: a frame of held-out tracks, None where its record does not say.
    """

    name: str
    file: Path
    sample_rate: int
    model: str
    bits: float | None

    @classmethod
    def of(cls, name: str, file) -> Piece:
        """file: lies beside the codecs and the generator of their top level.

        Raises:
            UserError: there is no such generator, or no such file.
        """
        folder = Path(file).parent
        chain = weights.chain(folder)
        if not chain.plays:
            raise UserError(f"{folder}: has no generator of level {chain.top}, the top one, which "
                            f"could have made {file}")
        if not Path(file).is_file():
            raise UserError(f"{file}: there is no such file")
        found = summary.learnt(weights.find(folder, chain.generator(chain.top)))
        return cls(name, Path(file), chain.sample_rate, found["model"], found["bits"])

    @property
    def heard_as(self) -> str:
        """The name of its file among the section's sounds."""
        return f"{self.name}_piece.ogg"


def find(folders: Sequence[tuple[str, str]], corpora: Sequence[Corpus]) -> list[Named]:
    """The codecs of the chains of some folders, as far as they are trained, each (name, folder).

    Raises:
        UserError: a folder has no codec, one is damaged, or no corpus is of its rate.
    """
    found = []
    for name, folder in folders:
        every = weights.chain(folder).codecs.values()
        there = [codec for codec in every if weights.tags(folder, codec)]
        found += [Named(name, weights.find(folder, codec)) for codec in there or every]
    rates = {corpus.rate for corpus in corpora}
    for one in found:
        if one.rate not in rates:
            raise UserError(f"{one.weight_set.name} of {one.name} is at {one.rate} Hz; the data "
                            f"folders are at {', '.join(map(str, sorted(rates)))} Hz")
    return found


def measure(codecs: Sequence[Named], corpora: Sequence[Corpus],
            embed: fad.Embedder | None = None, engine_name: str = engine.ENGINES[0],
            baselines: Sequence[tuple[str, str, int]] = (), sliced: Sequence[str] = (),
            alone: Mapping[str, str] | None = None,
            progress: Callable[[str, float], None] = lambda what, share: None) -> list[dict]:
    """What each codec keeps of each corpus of its rate: rows {"corpus", "codecs", "level", "model",
    "known", "told", "kbps", "perplexity", "latency_ms", "block_speed", "steps", "planned"} and the
    figures of `serving.compare`; of one without codes also "prior", see `judge_prior`; of one whose
    codes lie on a map also "map", (`maps.topographic_error`, `maps.neighbour_ratio`); of those of
    `sliced` also `slices.test_losses`.

    told: which labels it was told of these tracks; None of a codec without labels. known: the names
    of the corpus's tracks that the codec was trained on; None where its record does not say. kbps,
    perplexity: None without codes. block_speed: see there; None of a codec that is not causal.
    steps, planned: after how many training was best, and how many it was to be.

    Args:
        baselines: (name, encoder, bits a second) of FFmpeg's codecs, measured on the corpora that
            codecs with codes are measured on; their level is 0.
        alone: corpora, by name, of which codecs called so are measured on that one, and no others
            on it.
        sliced: what the codecs are called that are measured by `slices.test_losses` too.
    """
    alone = alone or {}
    pairs = [(corpus, one) for corpus in corpora for one in codecs if one.rate == corpus.rate
             and (alone.get(one.name) == corpus.name
                  or one.name not in alone and corpus.name not in alone.values())]
    rows = []
    for done, (corpus, one) in enumerate(pairs):
        found, config = one.weight_set, one.weight_set.config
        progress(f"{found.name} of {one.name} on {corpus.name}", done / len(pairs))
        codec, sounds = engine.load_codec(found, engine_name), corpus.excerpts
        told = corpus.told(config)
        frames = [codec.encode(sound[None], label) for sound, label in zip(sounds, told,
                                                                           strict=True)]
        copies = [codec.decode(each, label)[0, : len(sound)]
                  for each, sound, label in zip(frames, sounds, told, strict=True)]
        used = figures_of_codes(config, np.concatenate(frames, axis=1))
        rows.append({"corpus": corpus.name, "codecs": one.name, "level": config.level,
                     "model": found.name, "known": _known(found, corpus),
                     "told": sorted({one for one in told if one}) if config.labels else None,
                     "kbps": metrics.bitrate(config) if config.has_codes else None,
                     "perplexity": used.get("perplexity"),
                     "latency_ms": 1000.0 * codec.latency,
                     "block_speed": block_speed(codec, sounds[0]) if config.in_blocks else None,
                     "steps": found.record.get("step"),
                     "planned": found.training.steps if found.training else None}
                    | serving.compare(zip(sounds, copies, strict=True), corpus.rate, embed))
        if not config.has_codes:
            rows[-1]["prior"] = judge_prior(codec, sounds, copies, told)
        if config.quantizer.kind == "som":
            rows[-1]["map"] = (maps.topographic_error(found, sounds),
                               maps.neighbour_ratio(maps.sounds_of_codes(codec),
                                                    config.quantizer.grid))
        if one.name in sliced:
            rows[-1] |= slices.test_losses(found, corpus)
    for corpus in corpora:
        if not any(row["corpus"] == corpus.name and row["kbps"] for row in rows):
            continue
        for name, encoder, bits in baselines:
            rows.append({"corpus": corpus.name, "codecs": baseline_name(name, bits), "level": 0,
                         "model": encoder, "known": [], "told": None, "kbps": bits / 1000,
                         "perplexity": None, "latency_ms": None, "block_speed": None,
                         "steps": None, "planned": None}
                        | serving.compare(((sound, recode(sound, corpus.rate, encoder, bits)[0])
                                           for sound in corpus.excerpts), corpus.rate, embed))
    return rows


def judge_prior(codec: engine.CodecEngine, sounds: Sequence[np.ndarray],
                copies: Sequence[np.ndarray], told: Sequence[str | None] = (),
                pieces: int = 3) -> dict:
    """What a VAE makes by itself, in figures, beside what it makes of recordings.

    Args:
        sounds, copies: recordings and what comes back of them, float32 [samples] each.
        told: what the codec was told of each recording; samples and walk are told what the first
            one is.

    Returns:
        level_db: of `pieces` samples of the prior, as long as the first sound, the mean RMS in
        dBFS; music_db: of the copies. apart: the mean mel distance between the
        samples; from_mean: between them and the decoded mean of the prior, zeros. walk: how far the
        average spectrum has gone from the first sound to the last of the same label in each tenth
        of a walk between them, 0 to 1; None where there is none other.
    """
    told = told or [None] * len(sounds)
    label, last = told[0], max(i for i, one in enumerate(told) if one == told[0])
    rate, config = codec.config.sample_rate, codec.config
    samples = len(sounds[0])
    frames = -(-samples // config.level)
    drawn = [latents.decode(codec, latents.sample_prior(config, frames, seed), samples, label)
             for seed in range(1, pieces + 1)]
    mean = latents.decode(codec, np.zeros((frames, config.frame_width), np.float32), samples,
                          label)

    def between(others):
        return float(np.mean([metrics.mel_distance(x, y, rate) for x, y in others]))

    return {"level_db": float(np.mean([metrics.rms_db(x) for x in drawn])),
            "music_db": float(np.mean([metrics.rms_db(x) for x in copies])),
            "apart": between([(x, y) for i, x in enumerate(drawn) for y in drawn[:i]]),
            "from_mean": between([(mean, x) for x in drawn]),
            "walk": _walk(codec, sounds[0], sounds[last], label) if last else None}


def _walk(codec, begin, end, label, steps: int = 10) -> list[float]:
    count = min(len(begin), len(end))
    ends = [latents.encode(codec, one[:count], label) for one in (begin, end)]
    made = latents.decode(codec, latents.walk(*ends), count, label)

    def spectra(sound):
        frames = np.concatenate(list(metrics.magnitudes(sound, 2048, 512)))
        return [part.mean(0) for part in np.array_split(frames, steps)]

    first, last = (spectra(latents.decode(codec, one, count, label)) for one in ends)
    gone = []
    for there, a, b in zip(spectra(made), first, last, strict=True):
        gone.append(float((there - a) @ (b - a) / max((b - a) @ (b - a), 1e-9)))
    return gone


def _known(found: weights.WeightSet, corpus: Corpus) -> list[str] | None:
    known = serving.known(found, corpus.tracks)
    return None if known is None else sorted(known)


def section(kind: Section, rows: Sequence[dict], corpora: Sequence[Corpus], command: str = "",
            files: Sequence[str] = (), pieces: Sequence[Piece] = ()) -> str:
    """The Markdown of `measure`'s rows: a table a corpus, codecs of one level side by side, and
    what `draw` wrote, by name; then the pieces.
    """
    page, marks = Page(f"docs/results/{kind.folder}", files), set()
    page.begin(kind.title, kind.about, command)
    for corpus in corpora:
        own = [row for row in rows if row["corpus"] == corpus.name]
        if not own:
            continue
        page.heading(f"{corpus.name}: {corpus.rate:,} Hz, {len(corpus.tracks)} tracks, "
                     f"{own[0]['seconds']:.0f} s")
        shown, priors = [], []
        for level, name in dict.fromkeys((row["level"], row["codecs"])
                                         for row in sorted(own, key=lambda row: -row["level"])):
            same = [row for row in own if (row["level"], row["codecs"]) == (level, name)]
            mark = ("†" if any(row["known"] is None for row in same)
                    else "\\*" * any(row["known"] for row in same))
            marks.add(mark)
            shown.append((f"{level}x" if level else "", name + mark,
                          *(_cell([row[key] for row in same], form) for _, key, form in COLUMNS),
                          _steps(same)))
            priors += [(name, row["prior"]) for row in same if "prior" in row]
        page.add(*table(("level", "codecs", *(title for title, *_ in COLUMNS), "steps"),
                        shown))
        for name, words in kind.wanted.items():
            if any(row["codecs"] == name for row in own):
                page.add(words)
        for name, told in {row["codecs"]: row["told"] for row in own}.items():
            if told is not None:
                page.add(f"{name} is told what each track is: {', '.join(told)}." if told else
                         f"{name} is told nothing of these tracks: none has one of its labels.")
        if priors:
            _write_priors(page, priors)
        for name in dict.fromkeys(row["codecs"] for row in own if "map" in row):
            errors, alike = zip(*(row["map"] for row in own if row["codecs"] == name), strict=True)
            page.add(f"The codes of {name} lie on a map. Topographic error: in "
                     f"{_cell(errors, '.1%')} of the frames the two nearest codes are no "
                     f"neighbours. Neighbours sound {_cell(alike, '.2f')} times as far apart as "
                     f"any two codes.")
        if sliced := [row for row in own if "slice_loss" in row]:
            page.add(_of_slices(sliced))
        page.listen([(f"{corpus.name}_original.ogg", "original"),
                     *((file, f"{name} {level}x") for (level, name), file in
                       _examples(own, corpus).items())])
        page.picture(f"{corpus.name}.png", "Waveforms and spectrograms of an original and of what "
                                           "each codec keeps of it")
        for (level, name), file in _examples(own, corpus).items():
            stem = Path(file).stem
            page.picture(f"{stem}_map.png", f"The codes of {name} in their places on the map, and "
                                            f"what each sounds like")
            page.picture(f"{stem}_waveforms.png", f"Waveforms of test tracks before and after "
                                                  f"{name} {level}x")
    if pieces:
        page.heading("what their generators make")
        page.add("Pieces from nothing, each by the generator of the top level; bits a frame, of "
                 "held-out tracks. How many codes a frame has, and how long it is, differs.")
        page.add(*table(("codecs", "generator", "bits a frame"), [
            (one.name, one.model, _cell([one.bits], ".1f")) for one in pieces]))
        page.listen([(one.heard_as, one.name) for one in pieces])
    notes = (["\\* Trained on some of these tracks."] * ("\\*" in marks)
             + ["† There is no record of what they were trained on."] * ("†" in marks))
    page.add(" ".join([*notes, f"Measured on {machine.describe()['cpu']}."]))
    return page.text


def _cell(values, form: str) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    alike = len({f"{value:{form}}" for value in there}) == 1
    return spread(float(np.mean(there)), there[:1] if alike else there, form)


def _of_slices(rows) -> str:
    each = ", ".join(f"{row['codecs']} {row['slice_loss']:.3f} ({row['frame_loss']:.3f})"
                     for row in rows)
    return (f"TechnoGen's own test loss, of all slices of {slices.SECONDS:g} s of the test tracks: "
            f"waveform, one spectrum for each whole slice, and commitment. In brackets the same "
            f"with the spectra of all frames, which tell when something sounds too: {each}. Its "
            f"README has 0.105 for its smallest model, 0.435 and 0.075 for larger ones, on its own "
            f"test songs, to compare with the figures before the brackets.")


def _steps(rows) -> str:
    """After how many steps training was best, and of how many where that is earlier."""
    planned = [row["planned"] for row in rows if row["planned"]]
    early = any(row["steps"] < row["planned"] for row in rows if row["steps"] and row["planned"])
    return (_cell([row["steps"] for row in rows], ".0f")
            + (f" of {np.mean(planned):.0f}" if early else ""))


def _write_priors(page: Page, priors):
    page.add("What VAEs make by themselves: three samples of the prior, their level beside that of "
             "reconstructed music, how far (mel) they are from each other and from the decoded "
             "mean; and how far the average spectrum has gone in each tenth of a walk from the "
             "first recording to the last. One with labels is told what the first recording is, "
             "and walks to the last that is the same.")
    page.add(*table(("codecs", "samples dBFS", "music dBFS", "apart", "from the mean", "walk"), [
        (name, f"{one['level_db']:.1f}", f"{one['music_db']:.1f}", f"{one['apart']:.2f}",
         f"{one['from_mean']:.2f}", " ".join(f"{x:.2f}" for x in one["walk"] or ()))
        for name, one in priors]))


def _examples(rows, corpus: Corpus) -> dict[tuple[int, str], str]:
    """The files to listen to, by (level, what the codecs are called)."""
    return {(row["level"], row["codecs"]): f"{corpus.name}_{row['codecs']}_{row['level']}.ogg"
            for row in rows if row["level"]}


def draw(codecs: Sequence[Named], corpora: Sequence[Corpus], rows: Sequence[dict], folder,
         engine_name: str = engine.ENGINES[0], pieces: Sequence[Piece] = ()) -> list[Path]:
    """`LISTEN` seconds of each corpus and what each codec keeps of them, to hear and to see, in
    `folder`, and the pieces. Of several trainings of one name the first is heard.
    """
    written = []
    for piece in pieces:
        gallery = Gallery(make_folder(folder), piece.sample_rate)
        gallery.example(piece.heard_as, audio.decode(piece.file, piece.sample_rate))
        written += gallery.written
    for corpus in corpora:
        gallery = Gallery(make_folder(folder), corpus.rate)
        sound = corpus.excerpts[0][: round(LISTEN * corpus.rate)]
        heard = {"original": sound}
        for key, file in _examples([row for row in rows if row["corpus"] == corpus.name],
                                   corpus).items():
            one = next(one for one in codecs if one.rate == corpus.rate
                       and (one.weight_set.config.level, one.name) == key)
            codec = engine.load_codec(one.weight_set, engine_name)
            made = serving.copy(codec, sound, corpus.told(codec.config)[0])
            heard[f"{key[1]} {key[0]}x"] = made
            gallery.example(file, made)
            _draw_frames(gallery, Path(file).stem, codec, corpus)
        if len(heard) > 1:
            gallery.example(f"{corpus.name}_original.ogg", sound)
            gallery.picture(f"{corpus.name}.png", plots.spectrograms, heard,
                            sample_rate=corpus.rate,
                            title=f"{corpus.name}, {LISTEN:g} s of a test track")
        written += gallery.written
    return written


def _draw_frames(gallery: Gallery, stem: str, codec: engine.CodecEngine, corpus: Corpus):
    """The map that a codec's codes lie on; of one without codes waveforms before and after."""
    config, told = codec.config, corpus.told(codec.config)
    if not config.has_codes:
        drawn = {}
        for (track, sound), label in list(zip(corpus.heard, told, strict=True))[:TRACKS]:
            drawn |= {f"{track_name(track)}, before": sound,
                      f"{track_name(track)}, after": serving.copy(codec, sound, label)}
        gallery.picture(f"{stem}_waveforms.png", plots.waveforms, drawn,
                        sample_rate=corpus.rate, title=f"{config.name}: before and after", across=2)
    elif config.quantizer.kind == "som":
        counts = sum(metrics.histogram(codec.encode(sound[None])[0], config.num_codes)[0]
                     for sound in corpus.excerpts)
        gallery.picture(f"{stem}_map.png", plots.code_map, maps.sounds_of_codes(codec), counts,
                        config.quantizer.grid, title=config.name)


def write(kind: Section, rows: Sequence[dict], corpora: Sequence[Corpus], folder, command: str = "",
          files: Sequence[str] = (), pieces: Sequence[Piece] = ()) -> list[Path]:
    """Write the section into RESULTS.md of `folder`, in place of the one that stands there, and its
    `outline` into the guide of the section, where that is there and has a place for it.
    """
    guide = Path(folder) / "docs" / kind.guide
    written = [report.write_section(folder, kind.title,
                                    section(kind, rows, corpora, command, files, pieces))]
    if guide.is_file() and GUIDE[0] in (page := guide.read_text(encoding="utf-8")):
        text = "\n".join(outline(kind, rows, corpora, files))
        with atomic_write(guide) as file:
            file.write(benchmark.insert(page, text, GUIDE).encode())
        written.append(guide)
    return written


def outline(kind: Section, rows: Sequence[dict], corpora: Sequence[Corpus],
            files: Sequence[str] = ()) -> list[str]:
    """Lines of a table of the rows with a codec, in the order that the codecs were named: what it
    keeps, and a sound of those that are in `files`.
    """
    shown = []
    for level, name, corpus in dict.fromkeys((row["level"], row["codecs"], row["corpus"])
                                             for row in rows if row["level"]):
        same = [row for row in rows if (row["level"], row["codecs"], row["corpus"])
                == (level, name, corpus)]
        own = next(one for one in corpora if one.name == corpus)
        file = _examples(same, own)[level, name]
        heard = f"[{own.rate:,} Hz](results/{kind.folder}/{file})" if file in files else "–"
        shown.append((f"`{name}`", f"{level}x", *(_cell([row[key] for row in same], form)
                                                 for _, key, form in OUTLINED), heard))
    return table(("preset", "level", *(title for title, *_ in OUTLINED), "a sound"), shown)
