"""What `evaluation` measured as a person reads it: RESULTS.md, pictures, and examples to listen to.
"""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import replace
from pathlib import Path

from .. import machine, plots
from ..config import ChainConfig, load_yaml
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

    def measure(results):
        rows = [row for row in results.get("generators") or () if row.get(key) is not None]
        return (min(row[key] - row["bits"] for row in rows), [row["level"] for row in rows]) if rows else None

    return measure


def figures(chain: ChainConfig) -> tuple[Target, ...]:
    """The figures that stand first, of a chain's levels.

    What they have to reach is not known here: a corpus says it, see `read_targets`.
    """
    codecs = [
        Target(f"{title}, {level}x", sign, None, None, unit, worst("codecs", key, level=level))
        for level in reversed(chain.sizes) for key, title, unit, sign in (
            ("sc_db", "SC", "dB", "≤"), ("mel", "mel", "", "≤"), ("si_sdr_db", "SI-SDR", "dB", "≥"),
            ("fad", "Fréchet distance", "", "≤"))]
    return (
        *codecs,
        Target("codes in use, worst level", "≥", None, None, "", worst("codecs", "usage", min)),
        Target("hum at the codes' rate, worst level", "≤", None, None, "dB", worst("codecs", "buzz_db", max)),
        Target("notches at the codes' rate, worst level", "≥", None, None, "dB", worst("codecs", "notch_db")),
        Target("silence, worst level", "<", None, None, "dBFS", worst("codecs", "silence_db", max)),
        Target("bits under the unigram, worst level", "≥", None, None, "", _gain("unigram")),
        # A model that was taught to rely on its context is worse without it than one that never had
        # any: no bound fits.
        Target("bits that the context is worth, asked without it, worst level", "≥", None, None, "", _gain("padded")),
        Target("bits that the context is worth, against one trained without, worst level", "≥", None, None, "",
               _gain("context_free")),
        Target("Fréchet distance of the chain", "≤", None, None, "", lambda results: (
            results["chain"][0]["fad"] if results.get("chain") else None)),
        Target(f"Fréchet distance of variations, {chain.top}x kept", "≤", None, None, "", lambda results: next(
            (row["fad"] for row in results.get("variations") or () if row["keep"] == chain.top > row["depth"]), None)),
    )


def read_targets(path, chain: ChainConfig) -> tuple[Target, ...]:
    """`figures` with the bounds that a `targets.yml` has for them: `mel, 8x: {must: 0.32, aim:
    0.25}`, or one of both.

    Raises:
        UserError: the file cannot be read, there is no such figure, or a bound is no number.
    """
    values, named = load_yaml(path), {figure.what: figure for figure in figures(chain)}
    for what, bounds in values.items():
        if what not in named:
            near = difflib.get_close_matches(str(what), named, n=1, cutoff=0.0)[0]
            raise UserError(f"{printable(path)}: there is no figure {str(what)!r}; did you mean {near!r}?")
        if not isinstance(bounds, dict) or not bounds or not set(bounds) <= {"must", "aim"} or not all(
                type(x) in (int, float) and math.isfinite(x) for x in bounds.values()):
            raise UserError(f"{printable(path)}: {what!r} must have a number for must, for aim, or for both")
    return tuple(replace(figure, **values.get(what, {})) for what, figure in named.items())


def write(results: dict, evaluated: Evaluation, name: str, folder, runs_dir=None, command: str = "",
          targets: tuple[Target, ...] | None = None) -> list[Path]:
    """RESULTS.md in `folder`, the section of corpus `name` alone; pictures and examples in
    docs/results/`name`/.

    Only what was measured is drawn.

    Args:
        runs_dir: the folder of training logs whose curves are drawn.
        targets: see `read_targets`; None: figures without bounds.

    Returns:
        What was written: nothing where a section is published already and `results` are not
            `whole`.

    Raises:
        UserError: a file cannot be written.
    """
    folder = Path(folder)
    if not whole(results, evaluated) and published(folder, name):
        return []
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
        f.write(merge(before, name, text).encode())
    return [path, *written]


def whole(results: dict, evaluated: Evaluation) -> bool:
    """Whether every part was measured, on the test tracks and at full length: what may replace
    published figures.
    """
    return not evaluated.plan.rough and evaluated.side == "test" and set(evaluation.PARTS) <= set(results)


def published(folder, name: str) -> bool:
    """Whether RESULTS.md in `folder` has a section of corpus `name`."""
    path = Path(folder) / "RESULTS.md"
    return path.exists() and _markers(name)[0] in path.read_text(encoding="utf-8")


def _markers(name):
    return f"<!-- evaluate.py: {name} -->", f"<!-- evaluate.py: end of {name} -->"


def merge(document: str, name: str, text: str) -> str:
    """`document` with what stands between the markers of `name` replaced by `text`, or that added
    at its end.
    """
    begin, end = _markers(name)
    whole = f"{begin}\n{text.strip()}\n{end}"
    pattern = re.escape(begin) + ".*?" + re.escape(end)
    if re.search(pattern, document, re.DOTALL):
        return re.sub(pattern, lambda _: whole, document, count=1, flags=re.DOTALL)
    return f"{document.rstrip()}\n\n{whole}\n"


# ---------------------------------------------------------------------------- pictures and examples


def _draw(results, evaluated, media, runs_dir) -> list[Path]:
    music, chain, rate, written = evaluated.music, evaluated.music.chain, evaluated.rate, []

    def picture(file, draw, *arguments, **more):
        if draw(*arguments, media / file, **more) is not False:
            _smaller(media / file)
            written.append(media / file)

    def example(file, sound):
        with atomic_write(media / file) as f:
            f.write(evaluation.encode_file(sound, rate, "libopus", EXAMPLE_RATE, frame_duration=20, vbr="on"))
        written.append(media / file)

    if "codecs" in results:
        track = evaluated.test[0]
        start = min(track.samples // 3, max(0, track.samples - round(SECONDS * rate)))
        sound = evaluated.samples(track, start, min(round(SECONDS * rate), track.samples - start))
        heard, counts = {"original": sound}, {}
        example("original.ogg", sound)
        for level in chain.sizes:
            codes = music.encode(sound, level)
            heard[f"{level}x"] = music.decode(codes, level)[: len(sound)]
            example(f"reconstruction_{level}.ogg", heard[f"{level}x"])
            books = evaluated.counts(level)
            counts |= {f"{level}x" + f", book {i + 1}" * (len(books) > 1): book for i, book in enumerate(books)}
        title = f"{evaluated.track_name(track)}, {SECONDS:g} s, and what each codec keeps of it"
        picture("reconstructions.png", plots.spectrograms, heard, sample_rate=rate, title=title)
        picture("usage.png", plots.code_usage, counts)
    if "chain" in results:
        setting = evaluated.plan.settings[0]
        pieces = {seed: evaluated.piece(setting, seed, SECONDS / 60) for seed in PIECES}
        sounds = {f"seed {seed}": audio.from_u16(p["audio"]) for seed, p in pieces.items()}
        for seed, sound in zip(PIECES, sounds.values(), strict=True):
            example(f"generated_{seed}.ogg", sound)
        picture("generated.png", plots.spectrograms, sounds, sample_rate=rate, title=f"Generated {setting}")
        part, levels = 10 * rate, setting.levels(chain)
        codes = {x: pieces[PIECES[0]][f"codes_{x}"][: part // x] for x in levels}
        shades = {x: plots.codec_shades(music.codec(x)) for x in levels}
        title = f"Ten seconds of seed {PIECES[0]}, as it is made: from the top down"
        picture("codes.png", lambda path: plots.codes(
            codes, shades, path, rate, chain.top, sounds[f"seed {PIECES[0]}"][:part], title=title))
    if "health" in results:
        curves = {f"{row['setting']}, seed {row['seed']}": row["loudness_db"] for row in results["health"]}
        picture("loudness.png", plots.loudness, curves)
    if runs_dir:
        picture("training.png", plots.training_curves, plots.logs(runs_dir, chain.names))
    return written


def _smaller(path):
    """A PNG of 256 colours, a third of the size: these are tracked."""
    from PIL import Image

    with Image.open(path) as image:
        few = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    with atomic_write(path) as f:
        few.save(f, "PNG", optimize=True)


# ----------------------------------------------------------------------------------------- the text


def section(results: dict, evaluated: Evaluation, name: str, files: list[str], command: str,
            targets: tuple[Target, ...] | None = None) -> str:
    """The Markdown of one corpus."""
    plan, here = evaluated.plan, f"docs/results/{name}"
    about = machine.describe()
    lines = [
        f"## {name}", "",
        f"{_amount(evaluated.train)} train, {_amount(evaluated.validation)} validate; every figure is of the "
        f"{_amount(evaluated.test)} of the {evaluated.side} split, unless it says otherwise.",
        "", *_trust(evaluated),
    ]
    if plan.rough:
        lines += ["", "These figures are rough: they are of a quick run."]
    if command:
        lines += ["", "```bash", command, "```"]

    def picture(file, what):
        if file in files:
            lines.extend(["", f"![{what}]({here}/{file})"])

    def listen(pairs):
        links = [f"[{what}]({here}/{file})" for file, what in pairs if file in files]
        if links:
            lines.extend(["", "Listen: " + " · ".join(links)])

    judged = [t.judge(results) for t in targets or figures(evaluated.music.chain)]
    judged = [row for row in judged if row["measured"] is not None]
    if judged:
        lines += ["", "### What was wanted" if any(row["verdict"] for row in judged) else "### Figures", ""]
        lines += table(("", "must", "aim", "measured", ""), [
            (row["what"], _bound(row, "must"), _bound(row, "aim"), f"{row['measured']:.4g} {row['unit']}".strip(),
             row["verdict"]) for row in judged])
    if "controls" in results:
        lines += ["", "### The scale", "",
                  "The Fréchet distance (embedding of musicnn's MSD_vgg) between the test tracks and other sound. It "
                  "depends on how much sound each side has: only distances of equal sizes can be compared.", ""]
        lines += _by_size(results["controls"], ("",), lambda row: (row["what"],))
    if "codecs" in results:
        lines += ["", "### Codecs", "",
                  f"{evaluation.EXCERPT:g} s of each test track, from a third of its length; means over the tracks. "
                  "Lower is better for SC, mel and distance (between the reconstructions and their originals), higher "
                  "for SI-SDR. Codes in use and perplexity are of the whole test tracks. Hum: how far lines at the "
                  "codes' rate and its multiples stand out of what lies beside them, more than in the original, at "
                  "worst, less the same half-way between them; beyond 3 dB it can be heard. Notches: how far they fall "
                  "short, likewise. Silence: what comes back of digital silence, rms and peak.", ""]
        lines += _codecs(results["codecs"])
        listen([("original.ogg", "original"),
                *((f"reconstruction_{x}.ogg", f"{x}x") for x in evaluated.music.chain.sizes)])
        picture("reconstructions.png", "Waveform and spectrogram of an original and of each level's reconstruction")
        picture("usage.png", "How often each code occurs, by rank")
    if "generators" in results:
        own = any("context_free" in row for row in results["generators"])
        lines += [
            "", "### Generators", "",
            f"Bits a frame of {plan.bits_seconds:g} s from the middle of each test track, each frame given the "
            f"real ones before it (the first {plan.warm_up:g} s are heard, not counted). At most: coded without "
            "knowing anything. Unigram: coded by how often each code stands in training. Without context: asked "
            "with every source code replaced by the token for nothing (padded) or by another track's (foreign), which "
            "overstates "
            "what it is worth, since the model was taught to rely on it" +
            ("; own model: one that was trained without" if own else "") + ".", ""
        ]
        lines += _generators(results["generators"])
    if "chain" in results:
        lines += ["", "### The chain", "",
                  f"The distance of {plan.minutes:g} minutes of generated music to the test tracks"
                  + (f", mean of {len(plan.seeds)} seeds (each)." if len(plan.seeds) > 1 else "."), ""]
        lines += _chain(results["chain"])
        listen([(f"generated_{seed}.ogg", f"seed {seed}") for seed in PIECES])
        picture("generated.png", "Waveform and spectrogram of three generated pieces")
        picture("codes.png", "The codes of a generated piece under its spectrogram")
    if "variations" in results:
        lines += ["", "### Variations", "",
                  "How much survives when a level's codes are real and those below it are generated: the distance of "
                  f"such variations of the test tracks (the middle of each, {plan.minutes:g} minutes in all) to the "
                  "test tracks. The last row of each is real codes, decoded.", ""]
        lines += _variations(results["variations"])
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
        lines += table(("", "nearest of all", "where", "median"), [
            (what, f"{near[key]['least']:.2f}", f"{near[key].get('of', 'the piece')} at {near[key]['at']:.1f} s "
             f"({near[key]['loudness_db']:.0f} dBFS), {near[key]['track']} at {near[key]['track_at']:.1f} s",
             f"{near[key]['median']:.2f}")
            for what, key in (("generated", "generated"), ("test music", "held_out"))])
    if "health" in results:
        lines += ["", "### Ten minutes on" if plan.minutes == 10 else f"### {plan.minutes:g} minutes on", "",
                  f"A pause is where the rms of every {evaluation.PAUSE_WINDOW:g} s is under "
                  f"{evaluation.SILENT_DB:g} dBFS; beside its length stands its loudest sample.", ""]
        lines += table(("chain", "dBFS of 10 s: least … most, last", "longest pause", "longest exact repeat", ""), [
            (f"{row['setting']}, seed {row['seed']}",
             f"{min(row['loudness_db']):.1f} … {max(row['loudness_db']):.1f}, {row['end_db']:.1f}",
             f"{row['pause']:.1f} s" + (f", peak {row['pause_peak_db']:.0f} dBFS" if row["pause"] else ""),
             ", ".join(f"{r['seconds']:.2f} s at {x}x" for x, r in row["repeat"].items()),
             "; ".join(row["ailments"]) or "healthy") for row in results["health"]])
        picture("loudness.png", "Loudness over time")
    if "fresh" in results:
        lines += _fresh(results["fresh"], evaluated)
    if "training.png" in files:
        lines += ["", "### Training"]
        picture("training.png", "Training curves of all models")
    lines += ["", f"Measured on {about['cpu']}, {about['cores']} cores, with " + ", ".join(
        f"{key} {value}" for key, value in about["versions"].items() if key in ("vqwave", "onnxruntime", "tensorflow",
                                                                               "av", "numpy")) + "."]
    return "\n".join(lines)


def _amount(tracks) -> str:
    return f"{len(tracks)} tracks ({sum(t.seconds for t in tracks) / 3600:.2f} h)"


def _trust(evaluated: Evaluation) -> list[str]:
    """What training, and what choices, had to do with the tracks that are measured."""
    chosen = evaluated.split.chosen_by_test
    if evaluated.side == "validation":
        words = ["Epochs were chosen on these tracks, and settings may be."]
    elif evaluated.side == "fresh":
        words = ["Nothing was chosen by looking at these tracks."]
    elif chosen:
        words = [f"These tracks are no longer untouched: {chosen} was chosen by looking at them."]
    else:
        words = ["No epoch was chosen on these tracks."]
    overlap = evaluated.overlap()
    clean = [name for name, tracks in overlap.items() if tracks == []]
    if clean:
        words.append(f"{', '.join(clean)}: trained on none of them, by their records.")
    for name, tracks in overlap.items():
        if tracks:
            words.append(f"**{name} was trained on {', '.join(tracks)}**: its figures are of music that it knows.")
    if unknown := [name for name, tracks in overlap.items() if tracks is None]:
        who = ", ".join(unknown)
        if evaluated.side == "fresh":
            words.append(f"**{who}: no record of the tracks trained on. What was trained before these tracks were held "
                         "out has seen them**, and its figures here are of music that it knows.")
        else:
            words.append(f"{who}: no record of the tracks trained on, so that the split is all there is to go by.")
    return [" ".join(words)]


def _fresh(results, evaluated: Evaluation) -> list[str]:
    """The subsection on the fresh split's tracks: the same figures as above."""
    fresh = evaluated.on("fresh")
    names = ", ".join(fresh.track_name(t) for t in fresh.test)
    lines = ["", "### Fresh tracks", "", f"The same of {_amount(fresh.test)} more: {names}. {_trust(fresh)[0]}"]
    for part, draw in (("codecs", _codecs), ("generators", _generators), ("chain", _chain),
                       ("variations", _variations)):
        if part in results:
            lines += ["", *draw(results[part])]
    return lines


def _codecs(rows) -> list[str]:
    several = any("books" in row for row in rows)
    head = ("codec", "kbit/s", "SC dB", "mel", "SI-SDR dB", f"distance, {rows[0]['seconds']:.0f} s", "codes in use",
            "perplexity", "hum dB", "notches dB", "silence dBFS")
    lines = table(head, [
        (row["codec"], f"{row['kbps']:.2f}", f"{row['sc_db']:.2f}", f"{row['mel']:.3f}", f"{row['si_sdr_db']:.2f}",
         f"{row['fad']:.1f}", *((f"{row['usage']:.1%}", f"{row['perplexity']:.0f}", f"{row['buzz_db']:+.1f}",
                                 f"{row['notch_db']:+.1f}", f"{row['silence_db']:.0f}, {row['silence_peak_db']:.0f}")
                                if row["level"] else ("",) * 5)) for row in rows])
    if several:
        lines += ["", *table(("codec", "book", "codes in use", "perplexity"), [
            (row["codec"], str(i + 1), f"{book['usage']:.1%}", f"{book['perplexity']:.0f}")
            for row in rows for i, book in enumerate(row.get("books", ()))])]
    return lines


def _generators(rows) -> list[str]:
    own = any("context_free" in row for row in rows)
    return table(
        ("generator", "at most", "unigram", "model", "padded", "foreign", *(["own model"] if own else [])),
        [(row["generator"], f"{row['most']:g}", f"{row['unigram']:.2f}", f"{row['bits']:.2f}",
          *(f"{row[key]:.2f}" if key in row else "" for key in ("padded", "foreign", *["context_free"] * own)))
         for row in rows])


def _chain(rows) -> list[str]:
    return _by_size(rows, ("chain",), lambda row: (row["setting"],))


def _variations(rows) -> list[str]:
    return _by_size(rows, ("chain", "real codes"), lambda row: (
        row["setting"], f"{row['keep']}x" + (", decoded" if row["keep"] == row["depth"] else "")))


def _by_size(rows, head, cells) -> list[str]:
    """Tables of distances, one for each size of the two sides: distances of several sizes do not
    compare.
    """
    lines = []
    for size in dict.fromkeys((row["seconds"], row["reference_seconds"]) for row in rows):
        alike = [row for row in rows if (row["seconds"], row["reference_seconds"]) == size]
        lines += ["", *table((*head, f"distance, {size[0]:.0f} s to {size[1]:.0f} s"), [
            (*cells(row), f"{row['fad']:.1f}" + (f" ({', '.join(f'{x:.1f}' for x in row['each'])})"
                                                 if len(row.get("each", ())) > 1 else "")) for row in alike])]
    return lines[1:]


def table(head, rows) -> list[str]:
    """A Markdown table; the first column left, the others right."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1), *(f"| {' | '.join(r)} |" for r in cells)]


def _bound(row, which) -> str:
    return "" if row[which] is None else f"{row['sign']} {row[which]:g} {row['unit']}".strip()


def parse_settings(chain, depths, temperatures, top_p=None) -> tuple[Setting, ...]:
    """Every depth with every temperature: int; and `default`, a number, or one a level as text:
    `1,0.9,0.9`.
    """
    made = []
    for depth in depths:
        for text in temperatures:
            try:
                values = None if text == "default" else tuple(float(x) for x in text.split(","))
            except ValueError:
                raise UserError(f"--temperatures has {text!r}; it takes default, a number, or one a level with "
                                "commas between") from None
            setting = Setting(depth, values, top_p)
            setting.sampling(chain)  # refuses too few temperatures
            made.append(setting)
    return tuple(made)
