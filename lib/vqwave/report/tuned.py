"""What a chain that began with trained models has learnt of a folder, as a section of RESULTS.md:
when its first music was heard, how near it came, and what it took.
"""

from __future__ import annotations

from pathlib import Path

from .. import config, machine
from ..errors import UserError
from ..io import weights
from ..train import plan
from . import serving
from .benchmark import Target
from .parts.part import Page, table
from .report import bound
from .summary import SEEDS, Summary, copies_table, learnt

FIGURES = (
    Target("from the command to the first new music", "≤", None, None, "min",
           lambda found: found["first_music"]),
    Target("distance to held-out tracks, as a multiple of what real music has", "≤", None, None,
           "", lambda found: found["times"]),
    Target("bits a frame of held-out tracks, against the models it began with, worst level", "≤",
           None, None, "%", lambda found: found["against_before"]),
    Target("bits a frame of held-out tracks, against a training from nothing, worst level", "≤",
           None, None, "%", lambda found: found["against_scratch"]),
    Target("memory", "≤", None, None, "GB", lambda found: found["memory"]),
)
"""Of `figures`, without bounds: `report.read_targets` has those."""


def section_name(name: str) -> str:
    """What the section of a corpus is called."""
    return f"{name}, beginning with trained models"


def read_run(folder) -> dict:
    """What `train` noted down of the training in a folder: {"spent", "first_music": seconds,
    "memory": bytes, "origin": folders, "verdicts": of the codecs}; None where it did not.

    Raises:
        UserError: nothing was trained there, or from nothing.
    """
    path = Path(folder) / plan.FILE
    values = config.load_yaml(path)
    if "origin" not in values:
        raise UserError(f"{path}: this training began with nothing, or did not begin")
    return {key: values.get(key) for key in ("spent", "first_music", "memory", "origin",
                                            "verdicts")}


def before_tuning(folder) -> list[dict]:
    """Rows of `serving.judged` of the codecs that a training into a folder tuned, from before."""
    path = Path(folder) / plan.FILE
    verdicts = config.load_yaml(path).get("verdicts") if path.is_file() else None
    return [one["first"] | {"model": f"{name}, before it was tuned"}
            for name, one in (verdicts or {}).items() if "first" in one]


def figures(made: Summary, run: dict, scratch: list[dict] | None = None) -> dict:
    """The figures of `FIGURES`, None where they were not measured: minutes, a multiple, percent,
    GB.

    Args:
        run: of `read_run`.
        scratch: `summary.learnt` of generators that were trained from nothing, from the top down.
    """
    def change(pairs):
        known = [100 * (now / then - 1) for now, then in pairs if now and then]
        return max(known, default=None)

    real = made.distance and made.distance["real"]
    return {
        "first_music": None if run["first_music"] is None else run["first_music"] / 60,
        "times": made.distance["made"] / real if real else None,
        "against_before": change((row["bits"], row["before"]) for row in made.generators),
        "against_scratch": change((row["bits"], other["bits"]) for row, other in
                                  zip(made.generators, scratch or (), strict=False)),
        "memory": run["memory"] / 1e9 if run["memory"] else None}


def _from_nothing(folder, model: str) -> dict:
    """`summary.learnt` of a generator that was trained from nothing, how many "epochs" that
    training came to, and how many were "planned".
    """
    found, epochs = weights.find(folder, model), [
        int(tag) for tag in weights.tags(folder, model) if tag.isdigit()]
    row = learnt(found) | {"epochs": max(epochs, default=0), "planned": None}
    if found.training and row["epoch"]:
        row["planned"] = round(found.training.steps * row["epoch"] / found.record["step"])
    return row


def _epochs(row: dict) -> str:
    """`2 of 5, 18 planned`, as far as it is known."""
    return (str(row["epoch"]) + f" of {row['epochs']}" * bool(row["epochs"])
            + f", {row['planned']} planned" * bool(row["planned"]))


def section(made: Summary, name: str, run: dict, scratch_dir=None, command: str = "",
            targets: tuple[Target, ...] = FIGURES) -> str:
    """The Markdown of `measure`d music and the training that it came from.

    Args:
        scratch_dir: generators of the same levels that were trained from nothing, to compare with.
    """
    scratch = [_from_nothing(scratch_dir, row["model"])
               for row in made.generators] if scratch_dir else None
    found, page = figures(made, run, scratch), Page("", ())
    page.begin(section_name(name),
               f"{plan.format_hours(run['spent'])} of training on {made.tracks} tracks "
               f"({60 * made.hours:.0f} min); held out are {made.held_out} "
               f"({60 * made.held_out_hours:.0f} min). It began with "
               f"{' and '.join(dict.fromkeys(Path(one).name for one in run['origin']))}.", command)
    judged = [target.judge(found) for target in targets]
    page.add(*table(("", "must", "aim", "measured", "verdict"), [
        (row["what"], bound(row, "must"), bound(row, "aim"),
         "" if row["measured"] is None else f"{row['measured']:.3g} {row['unit']}".strip(),
         row["verdict"]) for row in judged]))
    if made.distance:
        seconds = sum(map(len, made.pieces.values())) / made.rate
        page.add(f"Fréchet distance of {seconds:.0f} s in {len(SEEDS)} pieces to "
                 f"{made.distance['seconds']:.0f} s of held-out tracks: "
                 f"{made.distance['made']:.1f}; of as much of the training tracks: "
                 f"{made.distance['real']:.1f}.")

    def bits(value):
        return "–" if value is None else f"{value:.2f}"

    rows = [(row["model"], bits(row["before"]), bits(row["bits"]), str(row["epoch"]))
            for row in made.generators]
    head: tuple[str, ...] = ("generator", "bits a frame before", "after", "epoch")
    if scratch:
        head += ("from nothing", "its best epoch")
        rows = [(*row, bits(other["bits"]), _epochs(other))
                for row, other in zip(rows, scratch, strict=True)]
    page.add(*table(head, rows))
    whole = [name for name, one in (run["verdicts"] or {}).items()
             if one["treatment"] == "whole"]
    if whole:
        page.add(f"The whole of {' and '.join(whole)} was tuned: what stands before a generator's "
                 f"training is of its new codes, which the generator did not know yet.")
    page.add("Bits are of the tracks that validate, which chose the epoch; all else is of the "
             "tracks held out above." + (" Bits compare only where both are of the same codecs."
                                  if scratch else ""))
    page.add(*table(serving.HEAD, list(map(serving.cells, [*made.before, *made.codecs]))))
    page.add(*table(*copies_table(made)))
    about = machine.describe()
    page.add(f"Measured on {about['cpu']}, {about['cores']} cores. Memory is the peaks of the "
             f"processes that ran together, added up.")
    return page.text
