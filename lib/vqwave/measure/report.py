"""What `evaluation` measured as a person reads it: RESULTS.md, pictures, and examples to listen to."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import replace
from pathlib import Path

from .. import machine, plots
from ..config import LEVELS, SAMPLE_RATE, load_yaml
from ..data import audio
from ..errors import UserError
from ..files import atomic_write, printable
from . import evaluation
from .benchmark import Target, worst
from .evaluation import Evaluation, Setting

SECONDS = 30.0
"""Of each example to listen to."""

EXAMPLE_RATE = 32000
"""Bits per second of the examples, Ogg/Opus: eight of them take 1 MB."""

PIECES = (1, 2, 3)
"""Seeds of the generated examples."""


def _gain(key):
    """The least that the model is better by, in bits, over the levels that have `key`."""

    def measured(results):
        gains = [row[key] - row["bits"] for row in results.get("generators") or () if row.get(key) is not None]
        return min(gains) if gains else None

    return measured


def _of_each_codec():
    """SC, mel, SI-SDR and the distance of every level."""
    for level in reversed(LEVELS):
        for key, title, unit, sign in (("sc_db", "SC", "dB", "≤"), ("mel", "mel", "", "≤"),
                                       ("si_sdr_db", "SI-SDR", "dB", "≥"), ("fad", "Fréchet distance", "", "≤")):
            yield Target(f"{title}, {level}x", sign, None, None, unit, worst("codecs", key, level=level))


FIGURES = (
    *_of_each_codec(),
    Target("codes in use, worst level", "≥", None, None, "", worst("codecs", "usage", min)),
    Target("hum at the codes' rate, worst level", "≤", None, None, "dB", worst("codecs", "buzz_db", max)),
    Target("notches at the codes' rate, worst level", "≥", None, None, "dB", worst("codecs", "notch_db")),
    Target("silence, worst level", "<", None, None, "dBFS", worst("codecs", "silence_db", max)),
    Target("bits under the unigram, worst level", "≥", None, None, "", _gain("unigram")),
    Target("bits that the context is worth, asked without it, worst level", "≥", None, None, "", _gain("padded")),
    Target("bits that the context is worth, against one trained without, worst level", "≥", None, None, "",
           _gain("context_free")),
    Target("Fréchet distance of the chain", "≤", None, None, "", lambda results: (
        results["chain"][0]["fad"] if results.get("chain") else None)),
    Target("Fréchet distance of variations, 512x kept", "≤", None, None, "", lambda results: next(
        (row["fad"] for row in results.get("variations") or () if row["keep"] == LEVELS[0] > row["depth"]), None)),
)
"""The figures that stand first. What they have to reach is not known here: a corpus says it, see `read_targets`."""


def read_targets(path) -> tuple[Target, ...]:
    """`FIGURES` with the bounds that a `targets.yml` has for them: `mel, 8x: {must: 0.32, aim: 0.25}`, or one of both.

    Errors: `UserError` for a file that cannot be read, a figure that there is not, a bound that is no number.
    """
    values, known = load_yaml(path), [figure.what for figure in FIGURES]
    for what, bounds in values.items():
        if what not in known:
            near = difflib.get_close_matches(str(what), known, n=1, cutoff=0.0)[0]
            raise UserError(f"{printable(path)}: there is no figure {str(what)!r}; did you mean {near!r}?")
        if not isinstance(bounds, dict) or not bounds or not set(bounds) <= {"must", "aim"} or not all(
                type(x) in (int, float) and math.isfinite(x) for x in bounds.values()):
            raise UserError(f"{printable(path)}: {what!r} must have a number for must, for aim, or for both")
    return tuple(replace(figure, **values.get(figure.what, {})) for figure in FIGURES)


def write(results: dict, evaluated: Evaluation, name: str, folder, runs_dir=None, command: str = "",
          targets: tuple[Target, ...] = FIGURES) -> list[Path]:
    """RESULTS.md in `folder`, the section of corpus `name` alone; pictures and examples in docs/results/`name`/.

    runs_dir: the folder of training logs whose curves are drawn; targets: see `read_targets`. Only what was measured is
    drawn. Returns what was written. Errors: `UserError`.
    """
    folder = Path(folder)
    media = folder / "docs" / "results" / name
    try:
        media.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{media}: {(e.strerror or str(e)).lower()}") from e
    written = _draw(results, evaluated, media, runs_dir)
    text = section(results, evaluated, name, [p.name for p in written], command, targets)
    path = folder / "RESULTS.md"
    before = path.read_text(encoding="utf-8") if path.exists() else "# Results\n"
    with atomic_write(path) as f:
        f.write(merged(before, name, text).encode())
    return [path, *written]


def merged(document: str, name: str, text: str) -> str:
    """`document` with what stands between the markers of `name` replaced by `text`, or that added at its end."""
    begin, end = f"<!-- evaluate.py: {name} -->", f"<!-- evaluate.py: end of {name} -->"
    whole = f"{begin}\n{text.strip()}\n{end}"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    if re.search(pattern, document, re.DOTALL):
        return re.sub(pattern, lambda _: whole, document, count=1, flags=re.DOTALL)
    return f"{document.rstrip()}\n\n{whole}\n"


# ------------------------------------------------------------------------------------------------ pictures and examples


def _draw(results, evaluated, media, runs_dir) -> list[Path]:
    music, written = evaluated.music, []

    def picture(file, draw, *arguments, **more):
        if draw(*arguments, media / file, **more) is not False:
            _smaller(media / file)
            written.append(media / file)

    def example(file, sound):
        with atomic_write(media / file) as f:
            f.write(evaluation.encoded(sound, "libopus", EXAMPLE_RATE, frame_duration=20, vbr="on"))
        written.append(media / file)

    if "codecs" in results:
        track = evaluated.test[0]
        start = min(track.samples // 3, max(0, track.samples - round(SECONDS * SAMPLE_RATE)))
        sound = evaluated.samples(track, start, min(round(SECONDS * SAMPLE_RATE), track.samples - start))
        heard, counts = {"original": sound}, {}
        example("original.ogg", sound)
        for level in LEVELS:
            codes = music.encode(sound, level)
            heard[f"{level}x"] = music.decode(codes, level)[: len(sound)]
            example(f"reconstruction_{level}.ogg", heard[f"{level}x"])
            counts[f"{level}x"] = evaluated.counts(level)
        title = f"{evaluated.track_name(track)}, {SECONDS:g} s, and what each codec keeps of it"
        picture("reconstructions.png", plots.spectrograms, heard, title=title)
        picture("usage.png", plots.code_usage, counts)
    if "chain" in results:
        setting = evaluated.plan.settings[0]
        pieces = {seed: evaluated.piece(setting, seed, SECONDS / 60) for seed in PIECES}
        sounds = {f"seed {seed}": audio.from_u16(p["audio"]) for seed, p in pieces.items()}
        for seed, sound in zip(PIECES, sounds.values(), strict=True):
            example(f"generated_{seed}.ogg", sound)
        picture("generated.png", plots.spectrograms, sounds, title=f"Generated {setting}")
        part = round(10 * SAMPLE_RATE)
        codes = {x: pieces[PIECES[0]][f"codes_{x}"][: part // x] for x in setting.levels}
        shades = {x: plots.codec_shades(music.codec(x)) for x in setting.levels}
        title = f"Ten seconds of seed {PIECES[0]}, as it is made: from the top down"
        picture("codes.png", lambda path: plots.codes(codes, shades, path, sounds[f"seed {PIECES[0]}"][:part],
                                                      title=title))
    if "health" in results:
        curves = {f"{row['setting']}, seed {row['seed']}": row["loudness_db"] for row in results["health"]}
        picture("loudness.png", plots.loudness, curves)
    if runs_dir:
        picture("training.png", plots.training_curves, plots.logs(runs_dir))
    return written


def _smaller(path):
    """A PNG of 256 colours, a third of the size: these are tracked."""
    from PIL import Image

    with Image.open(path) as image:
        few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    with atomic_write(path) as f:
        few.save(f, "PNG", optimize=True)


# ------------------------------------------------------------------------------------------------------------- the text


def section(results: dict, evaluated: Evaluation, name: str, files: list[str], command: str,
            targets: tuple[Target, ...] = FIGURES) -> str:
    """The Markdown of one corpus."""
    plan, here = evaluated.plan, f"docs/results/{name}"
    hours = [sum(t.seconds for t in side) / 3600 for side in (evaluated.train, evaluated.validation, evaluated.test)]
    about = machine.describe()
    lines = [
        f"## {name}", "",
        f"{len(evaluated.train)} tracks train ({hours[0]:.2f} h), {len(evaluated.validation)} validate "
        f"({hours[1]:.2f} h); every figure is of the {len(evaluated.test)} test tracks ({hours[2]:.2f} h), which "
        "neither training nor the choice of an epoch reads.",
    ]
    if command:
        lines += ["", "```bash", command, "```"]

    def picture(file, what):
        if file in files:
            lines.extend(["", f"![{what}]({here}/{file})"])

    def listen(pairs):
        links = [f"[{what}]({here}/{file})" for file, what in pairs if file in files]
        if links:
            lines.extend(["", "Listen: " + " · ".join(links)])

    judged = [row for row in (t.judge(results) for t in targets) if row["measured"] is not None]
    if judged:
        lines += ["", "### What was wanted" if any(row["verdict"] for row in judged) else "### Figures", ""]
        lines += table(("", "must", "aim", "measured", ""), [
            (row["what"], _bound(row, "must"), _bound(row, "aim"), f"{row['measured']:.4g} {row['unit']}".strip(),
             row["verdict"]) for row in judged])
    if "controls" in results:
        lines += ["", "### The scale", "",
                  "The Fréchet distance (embedding of musicnn's MSD_vgg) between the test tracks and"]
        lines += ["", *table(("", "distance"), [(row["what"], f"{row['fad']:.1f}") for row in results["controls"]])]
    if "codecs" in results:
        lines += ["", "### Codecs", "",
                  f"{evaluation.EXCERPT:g} s of each test track, from a third of its length; means over the tracks. "
                  "Lower is better for SC, mel and distance (between the reconstructions and their originals), higher "
                  "for SI-SDR. Codes in use and perplexity are of the whole test tracks. Hum: how far lines at the "
                  "codes' rate and its multiples stand out of what lies beside them, more than in the original, at "
                  "worst, less the same half-way between them; beyond 3 dB it can be heard. Notches: how far they fall "
                  "short, likewise. Silence: what comes back of digital silence.", ""]
        lines += table(
            ("codec", "kbit/s", "SC dB", "mel", "SI-SDR dB", "distance", "codes in use", "perplexity", "hum dB",
             "notches dB", "silence dBFS"),
            [(row["codec"], f"{row['kbps']:.2f}", f"{row['sc_db']:.2f}", f"{row['mel']:.3f}", f"{row['si_sdr_db']:.2f}",
              f"{row['fad']:.1f}", *((f"{row['usage']:.1%}", f"{row['perplexity']:.0f}", f"{row['buzz_db']:+.1f}",
                                      f"{row['notch_db']:+.1f}", f"{row['silence_db']:.0f}") if row["level"]
                else ("",) * 5))
             for row in results["codecs"]])
        listen([("original.ogg", "original"), *((f"reconstruction_{x}.ogg", f"{x}x") for x in LEVELS)])
        picture("reconstructions.png", "Waveform and spectrogram of an original and of each level's reconstruction")
        picture("usage.png", "How often each code occurs, by rank")
    if "generators" in results:
        own = any("context_free" in row for row in results["generators"])
        lines += ["", "### Generators", "",
                  f"Bits per code of {plan.bits_seconds:g} s from the middle of each test track, each code given the "
                  f"real ones before it (the first {plan.warm_up:g} s are heard, not counted); 10 knows nothing. "
                  "Unigram: coded by how often each code stands in training. Without context: asked with every source "
                  "code replaced by the token for nothing (padded) or by another track's (foreign), which overstates "
                  "what it is worth, since the model was taught to rely on it"
                  + ("; own model: one that was trained without" if own else "") + ".", ""]
        lines += table(
            ("generator", "unigram", "model", "padded", "foreign", *(["own model"] if own else [])),
            [(row["generator"], f"{row['unigram']:.2f}", f"{row['bits']:.2f}",
              *(f"{row[key]:.2f}" if key in row else "" for key in ("padded", "foreign", *["context_free"] * own)))
             for row in results["generators"]])
    if "chain" in results:
        lines += ["", "### The chain", "",
                  f"The distance of {plan.minutes:g} minutes of generated music to the test tracks"
                  + (f", mean of {len(plan.seeds)} seeds (each)." if len(plan.seeds) > 1 else "."), ""]
        lines += table(("chain", "distance"), [
            (row["setting"], f"{row['fad']:.1f}" + (f" ({', '.join(f'{x:.1f}' for x in row['each'])})"
                                                    if len(row["each"]) > 1 else "")) for row in results["chain"]])
        listen([(f"generated_{seed}.ogg", f"seed {seed}") for seed in PIECES])
        picture("generated.png", "Waveform and spectrogram of three generated pieces")
        picture("codes.png", "The codes of a generated piece under its spectrogram")
    if "variations" in results:
        lines += ["", "### Variations", "",
                  "How much survives when a level's codes are real and those below it are generated: the distance of "
                  f"such variations of the test tracks (the middle of each, {plan.minutes:g} minutes in all) to the "
                  "test tracks. The last row of each is real codes, decoded.", ""]
        lines += table(("chain", "real codes", "distance"), [
            (row["setting"], f"{row['keep']}x" + (", decoded" if row["keep"] == row["depth"] else ""),
             f"{row['fad']:.1f}") for row in results["variations"]])
    if "copying" in results:
        found = results["copying"]
        lines += ["", "### How much is copied", "",
                  f"The longest run of codes of the generated piece ({found['setting']}) that stands in the training "
                  f"set, under any of {plan.offsets} alignments; and, for comparison, of test music, which copies "
                  "nothing. A run of few different codes is a held sound, not a melody.", ""]
        lines += table(("level", "generated", "different codes", "where", "test music"), [
            (f"{row['level']}x", f"{row['codes']} codes, {row['seconds']:.2f} s", str(row["distinct"]),
             f"{row['track']} at {row['track_at']:.1f} s", f"{row['held_out_codes']} codes, "
             f"{row['held_out_seconds']:.2f} s, {row['held_out_distinct']} different") for row in found["codes"]])
        near = found["passages"]
        lines += ["", "The distance of each three seconds to the most alike three seconds of the training set, by the "
                  "embedding (0 is the same sound):", ""]
        lines += table(("", "nearest of all", "median"), [
            (what, f"{near[key]['least']:.2f}", f"{near[key]['median']:.2f}")
            for what, key in (("generated", "generated"), ("test music", "held_out"))])
    if "health" in results:
        lines += ["", "### Ten minutes on" if plan.minutes == 10 else f"### {plan.minutes:g} minutes on", ""]
        lines += table(("chain", "dBFS of 10 s: least … most, last", "longest pause", "longest exact repeat", ""), [
            (f"{row['setting']}, seed {row['seed']}",
             f"{min(row['loudness_db']):.1f} … {max(row['loudness_db']):.1f}, {row['end_db']:.1f}",
             f"{row['pause']:.1f} s",
             ", ".join(f"{r['seconds']:.2f} s at {x}x" for x, r in row["repeat"].items()),
             "; ".join(row["ailments"]) or "healthy") for row in results["health"]])
        picture("loudness.png", "Loudness over time")
    if "training.png" in files:
        lines += ["", "### Training"]
        picture("training.png", "Training curves of all models")
    lines += ["", f"Measured on {about['cpu']}, {about['cores']} cores, with " + ", ".join(
        f"{key} {value}" for key, value in about["versions"].items() if key in ("vqwave", "onnxruntime", "tensorflow",
                                                                               "av", "numpy")) + "."]
    return "\n".join(lines)


def table(head, rows) -> list[str]:
    """A Markdown table; the first column left, the others right."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1), *(f"| {' | '.join(r)} |" for r in cells)]


def _bound(row, which) -> str:
    return "" if row[which] is None else f"{row['sign']} {row[which]:g} {row['unit']}".strip()


def parse_settings(depths, temperatures, top_p=None) -> tuple[Setting, ...]:
    """Every depth with every temperature: int; and `default`, a number, or one a level as text: `1,0.9,0.9`."""
    made = []
    for depth in depths:
        for text in temperatures:
            try:
                values = None if text == "default" else tuple(float(x) for x in text.split(","))
            except ValueError:
                raise UserError(f"--temperatures has {text!r}; it takes default, a number, or one a level with "
                                "commas between") from None
            setting = Setting(depth, values, top_p)
            setting.options()  # refuses too few temperatures
            made.append(setting)
    return tuple(made)


