"""Generators of the same codes as players: what several predict and what music they make, each as a
chain of its own, in one section of RESULTS.md. `cores` says how fast they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import machine, plots, quiet
from ..dsp import metrics, notes
from ..io import audio
from ..io.files import make_folder
from ..play import engine
from . import report
from .evaluation import Evaluation
from .parts import chain, generators, health
from .parts import notes as notes_part
from .parts.part import Gallery, Page, spread, table

LISTEN = 30.0
"""Seconds of a piece to listen to."""

MINUTE, HOUR = 60.0, 3600.0
"""Seconds of past that the bits of the same frames are compared with, and (the first) how many
seconds are counted.
"""

COLUMNS = (*((what, what, ".3f") for what in notes.STATISTICS), ("notes a second", "line", ".1f"),
           ("alike a second later", "alike", ".2f"))


@dataclass(frozen=True)
class Player:
    """A chain and what it is called in the table."""

    name: str
    evaluation: Evaluation

    @property
    def setting(self):
        return self.evaluation.plan.settings[0]


def measure(players: Sequence[Player], past: bool = True) -> list[dict]:
    """A row for each player: {"player", "core", "bits": a frame of the test tracks at the top,
    "unigram", "a_second": bits, "minute", "hour", "fad", "each", "pause": the longest inside, in
    seconds}, the figures of `notes.divergences`, and "steps" of its training.

    minute, hour: the bits a frame of the same minute of music after that much of it; None without
    `past`, and of generators that are told something besides.

    Args:
        past: whether an hour of past is compared.
    """
    rows = []
    for player in players:
        one, music = player.evaluation, player.evaluation.music
        one.part = generators.Generators.name
        top = music.weight_set(music.chain.generator(music.chain.top))
        predicted = generators.Generators().measure(one)[0]
        one.part = chain.Chain.name
        (heard,) = chain.Chain().measure(one)
        one.part = notes_part.Notes.name
        (noted,) = notes_part.measure_chain(one)
        one.part = health.Health.name
        pauses = [row["pause_inside"] for row in health.Health().measure(one)]
        rows.append({
            "player": player.name, "core": top.config.core.kind, "steps": top.record.get("step"),
            "bits": predicted["bits"], "unigram": predicted["unigram"],
            "a_second": predicted["bits"] * one.rate / top.config.level,
            **(measure_hour(one, top) if past else {"minute": None, "hour": None}),
            "fad": heard["fad"], "each": heard["each"], "pause": max(pauses),
            **{key: noted[key] for _, key, _ in COLUMNS}})
    return rows


def measure_hour(evaluation: Evaluation, found) -> dict:
    """{"minute", "hour"}: bits a frame of one minute of test music, of which the generator has
    heard a minute before, and an hour; None where it is told something besides its own past.

    The hour is the codes of the test tracks one after the other, again and again.

    Args:
        found: the weights of a generator.
    """
    config, rate = found.config, evaluation.rate
    if config.conditions:
        return {"minute": None, "hour": None}
    quiet.import_keras()
    from ..data.codes import CodeTrack
    from ..data.windows import Span
    from . import scoring

    def measure():
        codec = evaluation.music.codec(config.level)
        once = np.concatenate([codec.encode(evaluation.samples(track)[None])[0]
                               for track in evaluation.test])
        counted, most = (round(x * rate / config.level) for x in (MINUTE, HOUR))
        frames = np.resize(once, (most + counted, *once.shape[1:]))
        track = CodeTrack(frames, len(frames), track=evaluation.test[0], start=0)
        generator = engine.load_generator(found, evaluation.music.engine)
        bits = {}
        for name, past in (("minute", counted), ("hour", most)):
            start = len(frames) - counted - past
            before = frames[start - 1][None] if start else None
            chosen = scoring.score(
                generator, [Span(track, start, past + counted)], before,
                report=lambda share, name=name: evaluation.progress(
                    evaluation.part, f"{config.name} after a {name}", share))
            bits[name] = metrics.bits(chosen[:, -counted:])
        return bits

    key = {"figure": "hour", "by": found.checksum[:16], "engine": evaluation.music.engine,
           "codecs": evaluation.codec_key(config.level),
           "test": evaluation.corpus(evaluation.test), "seconds": [MINUTE, HOUR]}
    return evaluation.figure(key, measure, f"{config.name} after an hour")


def section(title: str, rows: Sequence[dict], players: Sequence[Player], command: str = "",
            files: Sequence[str] = ()) -> str:
    """The Markdown of `measure`'s rows, and of what `draw` wrote in the folder of that name."""
    one = players[0].evaluation
    page = Page(f"docs/results/{folder_name(title)}", files)
    page.begin(title, f"Generators over the same codes, each trained as "
                      f"[performance.md](docs/performance.md#cores-compared) says, on the "
                      f"{one.side} tracks of {one.data_dir.name}.", command)
    page.add("Bits a frame of real music, each frame given the real ones before it, and a minute "
             "of it after a minute of music and after an hour; the Fréchet distance of "
             f"{one.plan.minutes:g} minutes that each generates to the tracks"
             + (f", mean of {len(one.plan.seeds)} seeds (each)" if len(one.plan.seeds) > 1 else "")
             + "; the longest pause inside:")
    page.add(*table(
        ("", "core", "steps", "bits a frame", "unigram", "bits a second", "after a minute",
         "after an hour", "distance", "longest pause"),
        [(row["player"], row["core"], f"{row['steps']:,}" if row["steps"] else "",
          f"{row['bits']:.2f}", f"{row['unigram']:.2f}", f"{row['a_second']:.0f}",
          *("–" if row[key] is None else f"{row[key]:.3f}" for key in ("minute", "hour")),
          spread(row["fad"], row["each"], ".1f"), f"{row['pause']:.1f} s") for row in rows]))
    page.add("How the music uses notes: the divergence of its statistics from the tracks', in "
             "bits, 0 (alike) to 1; notes a second of the strongest line; how alike the harmony is "
             "a second later. The tracks themselves stand last.")
    own = notes_part.portray_tracks(one, one.test)
    page.add(*table(("", *(name for name, *_ in COLUMNS)), [
        *((row["player"], *(format(row[key], form) for _, key, form in COLUMNS)) for row in rows),
        (f"{one.side} tracks", *(format(own[key], form) if key in ("line", "alike") else ""
                                 for _, key, form in COLUMNS))]))
    page.listen([(_example(player), player.name) for player in players])
    page.picture("notes.png", "Piano rolls of a piece of each, and of a real one")
    about = machine.describe()
    page.add(f"Measured on {about['cpu']}, {about['cores']} cores.")
    return page.text


def draw(title: str, players: Sequence[Player], folder) -> list[Path]:
    """`LISTEN` seconds of seed 1 of each player, to hear and drawn as notes beside a test track, in
    docs/results of `folder`. Returns the paths.
    """
    media = make_folder(Path(folder) / "docs" / "results" / folder_name(title))
    one = players[0].evaluation
    gallery, sounds = Gallery(media, one.rate), {}
    for player in players:
        player.evaluation.part = chain.Chain.name
        sounds[player.name] = audio.from_u16(player.evaluation.piece(
            player.setting, 1, LISTEN / 60)["audio"])
        gallery.example(_example(player), sounds[player.name])
    track = one.test[0]
    sounds[f"{one.side} track"] = one.samples(track, 0, min(track.samples,
                                                            round(LISTEN * one.rate)))
    gallery.picture("notes.png", plots.notes,
                    {name: notes.roll(sound, one.rate, columns=400)
                     for name, sound in sounds.items()}, title="Their notes, beside real ones")
    return gallery.written


def write(title: str, rows: Sequence[dict], players: Sequence[Player], folder, command: str = "",
          files: Sequence[str] = ()) -> Path:
    """Write the section into RESULTS.md of `folder`, in place of the one that stands there."""
    return report.write_section(folder, title, section(title, rows, players, command, files))


def folder_name(title: str) -> str:
    """Of docs/results, for a section."""
    return title.replace(" ", "_")


def _example(player: Player) -> str:
    return f"{player.name}.ogg"
