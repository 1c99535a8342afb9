"""Codecs on music that they were not trained on: several folders of codecs, each measured on
several corpora, and the section of RESULTS.md that shows it.

Trained on one corpus and tested on the other is the control for codecs that were trained on both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import machine, weights
from ..data import manifest
from ..data.splits import read_split, track_name
from ..errors import UserError
from ..play import engine
from . import fad, report, serving, summary
from .parts.part import Page, table

SECTION = "codecs on other music"
COLUMNS = (("notes kept", "notes", ".3f"), ("chroma", "chroma", ".3f"), ("SC dB", "sc_db", ".2f"),
           ("mel", "mel", ".3f"), ("SI-SDR dB", "si_sdr_db", ".2f"),
           ("distance", "distance", ".1f"))


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
        (_, held_out), spans = summary.sides_of(data_dir, read_split(split), 0, final)
        if not held_out:
            raise UserError(f"{split}: holds no track out to measure codecs on")
        return cls(Path(data_dir).resolve().name, Path(data_dir), held_out, spans)


def measure(codecs: Mapping[str, str], corpora: Sequence[Corpus],
            embed: fad.Embedder | None = None, engine_name: str = engine.ENGINES[0],
            progress: Callable[[str, float], None] = lambda what, share: None) -> list[dict]:
    """What each codec keeps of each corpus: rows {"corpus", "codecs", "level", "model", "known"}
    and the figures of `serving.measure`.

    known: the names of the corpus's tracks that the codec was trained on; None where its record
    does not say.

    Args:
        codecs: what folders of codecs are called, and where they are.

    Raises:
        UserError: a codec is missing, or a corpus is of another rate.
    """
    found = {name: [weights.find(folder, codec) for codec in weights.chain(folder).codecs.values()]
             for name, folder in codecs.items()}
    rows, all_of = [], len(corpora) * sum(map(len, found.values()))
    for corpus in corpora:
        sounds = serving.excerpts(corpus.data_dir, corpus.tracks, corpus.spans)
        for name, sets in found.items():
            for one in sets:
                progress(f"{one.name} of {name} on {corpus.name}", len(rows) / all_of)
                rate = corpus.tracks[0].sample_rate
                if one.config.sample_rate != rate:
                    raise UserError(f"{corpus.data_dir}: is at {rate} Hz, {one.name} of {name} at "
                                    f"{one.config.sample_rate} Hz")
                figures = serving.measure(engine.load_codec(one, engine_name), sounds, embed)
                rows.append({"corpus": corpus.name, "codecs": name, "level": one.config.level,
                             "model": one.name, "known": _known(one, corpus)} | figures)
    return rows


def _known(found: weights.WeightSet, corpus: Corpus) -> list[str] | None:
    heard = found.record.get("tracks")
    return None if heard is None else sorted(track_name(track) for track in corpus.tracks
                                             if track.sha256[:16] in set(heard))


def section(rows: Sequence[dict], corpora: Sequence[Corpus], command: str = "") -> str:
    """The Markdown of `measure`'s rows: a table a corpus, codecs of one level side by side."""
    page, marks = Page("", ()), set()
    page.add(f"## {SECTION[0].upper()}{SECTION[1:]}")
    page.add(f"What codecs that were trained on one corpus, or on several, keep of each: of "
             f"{serving.EXCERPT:g} s of each test track, at most {serving.MOST:g} s of a corpus. "
             f"The codecs of another corpus are the control.")
    if command:
        page.add("```bash", command, "```")
    for corpus in corpora:
        own = [row for row in rows if row["corpus"] == corpus.name]
        page.heading(f"{corpus.name}: {len(corpus.tracks)} tracks, {own[0]['seconds']:.0f} s")
        shown = []
        for row in sorted(own, key=lambda row: -row["level"]):
            mark = "†" if row["known"] is None else "\\*" * bool(row["known"])
            marks.add(mark)
            shown.append((f"{row['level']}x", row["codecs"] + mark, *(
                "–" if row[key] is None else f"{row[key]:{form}}" for _, key, form in COLUMNS)))
        page.add(*table(("level", "codecs", *(title for title, *_ in COLUMNS)), shown))
    notes = (["\\* Trained on some of these tracks."] * ("\\*" in marks)
             + ["† There is no record of what they were trained on."] * ("†" in marks))
    page.add(" ".join([*notes, f"Measured on {machine.describe()['cpu']}."]))
    return "\n".join(page.lines).strip()


def write(rows: Sequence[dict], corpora: Sequence[Corpus], folder, command: str = "") -> Path:
    """Write the section into RESULTS.md of `folder`, in place of the one that stands there."""
    return report.write_section(folder, SECTION, section(rows, corpora, command))
