"""Notes: what codecs and variations keep of them, how generated music uses them, how much of its
past a generator uses, and whether a continuation stays with its prompt.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ... import plots, quiet
from ...dsp import metrics, notes
from ...io import audio
from ...io.splits import track_name
from ...play import engine
from ...play.api import SILENT
from ...play.controls import STAY
from ..benchmark import Target
from ..media import EXAMPLE_SECONDS
from . import codecs
from .chain import generate_examples
from .part import Part, side_by_side

DEFINITION = 1
"""Counts up when a figure of notes would come out otherwise for the same sound."""

PLACES, COUNTED = 16, 1.0
"""Of each track, for the past that a generator uses: places, and seconds at each that are counted.
"""
_AT_ONCE = 24
"""Places that a generator is asked about in one call."""


class Notes(Part):
    """{"codecs": [{"codec", "level", "notes", "chroma", …}], "music": the statistics of real music,
    "chain": those of generated music, a row a setting, "variations": a row a level kept, "context":
    a row a generator, "continuations": {"won", "prompt_won", …}}.
    """

    name = "notes"
    fresh = True

    def measure(self, evaluation):
        return {"codecs": _measure_codecs(evaluation), "music": _measure_music(evaluation),
                "chain": measure_chain(evaluation), "variations": _measure_variations(evaluation),
                "context": _measure_context(evaluation),
                "continuations": _measure_continuations(evaluation)}

    def figures(self, chain):
        def row_of(part, wanted, key):
            def measure(results):
                rows = results["notes"][part] if "notes" in results else ()
                return next((row[key] for row in rows if wanted(row)), None)
            return measure

        def keep_rate(key, level):
            return row_of("codecs", lambda row: row["level"] == level, key)

        def context(results):
            rows = results["notes"]["context"] if "notes" in results else ()
            return next((100 * (row["bits"]["30"] / row["bits"]["2"] - 1) for row in rows
                         if row["level"] == chain.top and {"2", "30"} <= set(row["bits"])), None)

        def win_rate(results):
            found = results.get("notes", {}).get("continuations")
            return 100 * found["won"] if found else None

        return (
            *(Target(f"{title}, {level}x", "≥", None, None, "", keep_rate(key, level))
              for level in reversed(chain.sizes)
              for key, title in (("notes", "notes kept"), ("chroma", "chroma"))),
            *(Target(f"divergence of the chain's "
                     f"{what}", "≤", None, None, "bits", row_of("chain", bool, what))
              for what in notes.STATISTICS),
            Target("notes a second of the chain's strongest "
                   "line", "≥", None, None, "", row_of("chain", bool, "line")),
            Target("notes a second of the chain's strongest line, at most", "≤", None, None, "",
                   row_of("chain", bool, "line")),
            *(Target(f"notes kept of variations, {level}x kept", "≥", None, None, "",
                     row_of("variations", lambda row, level=level: row["keep"] == level, "notes"))
              for level in chain.sizes[:-1]),
            Target("bits a frame at the top, with 30 s of past against 2 "
                   "s", "≤", None, None, "%", context),
            Target("continuations nearer to their own track than to another, share of "
                   "pairs", "≥", None, None, "%",
                   win_rate),
        )

    def draw(self, results, evaluation, gallery):
        rate = evaluation.rate

        def rolls(sounds):
            # Few columns: noise fills a picture's file, and these are tracked.
            return {name: notes.roll(sound, rate, columns=400) for name, sound in sounds.items()}

        gallery.picture("notes.png", plots.notes, rolls(codecs.decode_example(evaluation)),
                        title=f"{track_name(evaluation.test[0])}: its notes, and what each codec "
                              f"keeps")
        pieces = {f"test track {track_name(track)}": evaluation.samples(
            track, track.samples // 3, min(round(EXAMPLE_SECONDS * rate),
                                           track.samples - track.samples // 3))
            for track in evaluation.test[:3]}
        pieces |= {f"generated, "
                   f"{name}": sound for name, sound in generate_examples(evaluation)[1].items()}
        gallery.picture("notes_generated.png", plots.notes, rolls(pieces),
                        title="The notes of real and of generated music")

    def write(self, page, sides, evaluation):
        found = [results[self.name] for results in sides.values()]
        plan = evaluation.plan
        page.heading("Notes")
        page.add("What variations keep of their original's notes, where a level's codes are real "
                 "and those below it are generated:")
        page.tables(side_by_side([_variation_table(one["variations"]) for one in found]))
        page.picture("notes.png", "Piano rolls of an original and of each level's reconstruction")
        page.picture("notes_generated.png", "Piano rolls of real and of generated pieces")
        if all(one["context"] for one in found):
            page.add(f"How much of its past a generator uses: bits a frame of {COUNTED:g} s at "
                     f"{PLACES} places of each track, where it has heard the music before them for "
                     f"so long:")
            page.tables(side_by_side([_context_table(one["context"]) for one in found]))
        if all(one["continuations"] for one in found):
            page.add(f"{plan.continuations} prompts of {plan.prompt_seconds:g} s from inside the "
                     f"tracks, each continued for {plan.prompt_seconds:g} s: how often a "
                     f"continuation is nearer, by how much each pitch class sounds, to the real "
                     f"continuation of its own prompt than to that of a prompt from another track. "
                     f"Chance is 50 %; the prompt itself shows what can be had.")
            page.tables(side_by_side([_continuation_table(one["continuations"]) for one in found]))


def _variation_table(rows):
    return [("real codes", "decoded at", "notes", "chroma"), *(
        (f"{row['keep']}x", f"{row['depth']}x", f"{row['notes']:.3f}", f"{row['chroma']:.3f}")
        for row in rows)]


def _context_table(rows):
    pasts = list(rows[0]["bits"])
    return [("generator", *(f"{past} s" for past in pasts),
             f"{pasts[-1]} s against {pasts[0]} s"), *(
        (row["generator"], *(f"{row['bits'][past]:.2f}" for past in pasts),
         f"{100 * (row['bits'][pasts[-1]] / row['bits'][pasts[0]] - 1):+.1f} %") for row in rows)]


def _continuation_table(found):
    return [("", "pairs won"), (found["setting"], f"{found['won']:.0%}"),
            ("the prompt", f"{found['prompt_won']:.0%}")]


# ---------------------------------------------------------------------------- codecs and variations


def _measure_codecs(evaluation):
    common = {"figure": "notes_kept", "definition": DEFINITION,
              "test": evaluation.corpus(evaluation.test),
              "excerpt": codecs.EXCERPT}
    rows = []
    for level, name in evaluation.music.chain.codecs.items():
        key = common | {"by": evaluation.codec_key(level), "engine": evaluation.music.engine}
        rows.append({"codec": name, "level": level} | evaluation.figure(
            key, lambda x=level: compare(codecs.decode_excerpts(evaluation, x),
                                         evaluation.rate), name))
    for name, encoder, bit_rate in codecs.baselines(evaluation.rate):
        called = codecs.baseline_name(name, bit_rate)
        rows.append({"codec": called, "level": 0} | evaluation.figure(
            common | {"by": encoder, "rate": bit_rate},
            lambda e=encoder, r=bit_rate: compare(codecs.recode_excerpts(evaluation, e, r)[0],
                                                  evaluation.rate),
            called))
    return rows


def _measure_variations(evaluation):
    """Each level kept, down to where the chain ends by itself, or one level if that is above."""
    rows, chain, setting = [], evaluation.music.chain, evaluation.plan.settings[0]
    for keep in chain.sizes[:-1]:
        played = setting
        if setting.depth >= keep:
            # The first setting's temperatures, if they are of one level each, are not of these.
            alike = setting.temperature if len(setting.temperature or ()) == 1 else None
            played = replace(setting, depth=chain.below(keep), temperature=alike)
        key = {"figure": "notes_varied", "definition": DEFINITION,
               **evaluation.variation_key(keep, played)}
        rows.append({"keep": keep, "depth": played.depth} | evaluation.figure(
            key, lambda k=keep, s=played: compare(evaluation.variation(k, s), evaluation.rate),
            f"variations with {keep}x kept"))
    return rows


def compare(pairs, sample_rate: int) -> dict[str, float]:
    """The means of `notes.compare` over (original, reconstruction)."""
    rows = [notes.compare(original, made, sample_rate) for original, made in pairs]
    return {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}


# ----------------------------------------------------------------------------- how music uses notes


def _measure_music(evaluation):
    """The portraits of real music, and their divergences from that of the test tracks."""
    own = portray_tracks(evaluation, evaluation.test)
    rows = [{"what": "the tracks themselves", "line": own["line"], "alike": own["alike"]}]
    for side, tracks in (("training", evaluation.train), ("validation", evaluation.validation)):
        if side != evaluation.side and (other := portray_tracks(evaluation, tracks)):
            rows.append({"what": f"{side} tracks"} | notes.divergences(own, other))
    return rows


def measure_chain(evaluation) -> list[dict]:
    """A row a setting: the means of `notes.divergences` over the seeds, and "each" of them."""
    own, rows, plan = portray_tracks(evaluation, evaluation.test), [], evaluation.plan
    for setting in plan.settings:
        each = []
        for seed in plan.seeds:
            key = {"figure": "portrait", "definition": DEFINITION,
                   "seconds": piece_seconds(evaluation),
                   "seed": seed, "minutes": plan.minutes, **setting.key(evaluation.music.chain),
                   "by": evaluation.chain_key(setting.depth)}

            def portray(setting=setting, seed=seed):
                sound = audio.from_u16(evaluation.piece(setting, seed)["audio"])
                return as_json(notes.portraits(sound, evaluation.rate, piece_seconds(evaluation)))

            found = evaluation.figure(key, portray, f"notes of {setting}, seed {seed}")
            each.append(notes.divergences(own, found))
        rows.append({"setting": str(setting), "depth": setting.depth}
                    | {what: float(np.mean([one[what] for one in each])) for what in each[0]}
                    | {"lines": [one["line"] for one in each], "each": each})
    return rows


def piece_seconds(evaluation) -> float:
    """Of what is portrayed: a minute, or what the test tracks and the pieces allow."""
    return min(notes.PIECE_SECONDS, 60 * evaluation.plan.minutes,
               max(t.seconds for t in evaluation.test))


def portray_tracks(evaluation, tracks) -> dict | None:
    """The mean portrait of the whole minutes of tracks; None where no track is that long."""
    seconds = piece_seconds(evaluation)
    tracks = [t for t in tracks if t.samples >= round(seconds * evaluation.rate)]
    if not tracks:
        return None

    def portray():
        return as_json([portrait for track in tracks
                        for portrait in notes.portraits(evaluation.samples(track),
                                                        evaluation.rate, seconds)])

    key = {"figure": "portrait", "definition": DEFINITION, "seconds": seconds,
           "tracks": evaluation.corpus(tracks)}
    return evaluation.figure(key, portray, f"the notes of {len(tracks)} tracks")


def as_json(portraits) -> dict:
    """The mean of portraits, with lists for arrays."""
    return {what: np.asarray(value).tolist() for what, value in notes.average(portraits).items()}


# ------------------------------------------------------------------------------------- context used


def _measure_context(evaluation):
    """{"generator", "level", "bits": {seconds of past: bits a frame}, "frames"} for each generator
    that the first setting plays; nothing where every track is too short.
    """
    plan, music = evaluation.plan, evaluation.music
    longest = max(t.seconds for t in evaluation.test) - COUNTED
    pasts = [past for past in plan.pasts if past <= longest]
    rows = []
    for level in plan.settings[0].levels(music.chain) if pasts else ():
        found = music.weight_set(music.chain.generator(level))
        source = found.config.source_level
        key = {"figure": "context", "by": found.checksum[:16], "engine": music.engine,
               "codecs": evaluation.codec_key(level, *[source] * bool(source)),
               "test": evaluation.corpus(evaluation.test), "pasts": pasts,
               "places": PLACES, "counted": COUNTED}
        rows.append(evaluation.figure(key, lambda f=found: measure_pasts(evaluation, f, pasts),
                                      f"the past that {found.name} uses"))
    return rows


def measure_pasts(evaluation, found, pasts) -> dict:
    """Bits a frame of the same frames, with several amounts of past. found: a generator's weights.

    As in training, the frame before the first is the real one and the state begins at zero.
    """
    quiet.import_keras()
    from .. import scoring

    config, music, top = found.config, evaluation.music, evaluation.music.chain.top
    level, step = config.level, evaluation.music.chain.top // config.level
    generator = engine.load_generator(found, music.engine)

    def frames(seconds):
        return max(1, round(seconds * evaluation.rate / top)) * step

    counted, most = frames(COUNTED), frames(max(pasts))
    above = music.codec(config.source_level) if config.source_level else None
    places = []
    for track in evaluation.test:
        coded = scoring.encode_track(evaluation.samples(track), music.codec(level), above, track, 0)
        if (last := (coded.frames - counted) // step * step) >= most:
            spread = np.unique(np.linspace(most, last, PLACES).astype(int) // step * step)
            places += [scoring.Span(coded, int(at), counted) for at in spread]
    costs = {}
    for i, past in enumerate(pasts):
        length, chosen = frames(past), []
        for first in range(0, len(places), _AT_ONCE):
            rows = places[first : first + _AT_ONCE]
            evaluation.progress(evaluation.part, f"{config.name}, {past:g} "
                                                 f"s", (i + first / len(places)) / len(pasts))
            asked = [replace(row, start=row.start - length, frames=length + counted)
                     for row in rows]
            before = np.stack([row.track.path[row.start - 1] if row.start else
                               np.full(config.books, config.start_token, np.int32)
                               for row in asked])
            chosen.append(scoring.score(generator, asked, before)[:, length:])
        costs[f"{past:g}"] = metrics.bits(np.concatenate(chosen))
    return {"generator": config.name, "level": level, "bits": costs,
            "frames": len(places) * counted}


# ------------------------------------------------------------------------------------ continuations


def _measure_continuations(evaluation):
    """Whether continuations stay with their prompts; None where all prompts are of one track."""
    plan, music, setting = evaluation.plan, evaluation.music, evaluation.plan.settings[0]
    key = {"figure": "continuations", "definition": DEFINITION, "count": plan.continuations,
           "seconds": plan.prompt_seconds, "seed": plan.seeds[0], "stay": STAY,
           **setting.key(music.chain),
           "by": evaluation.chain_key(setting.depth)
           | evaluation.codec_key(*setting.levels(music.chain)),
           "test": evaluation.corpus(evaluation.test)}
    found = evaluation.figure(key, lambda: continue_prompts(evaluation, setting), "continuations")
    if len(set(found["tracks"])) < 2:
        return None
    return {"setting": str(setting), "won": share_won(found["made"], found["real"],
                                                      found["tracks"]),
            "prompt_won": share_won(found["prompts"], found["real"], found["tracks"])}


def continue_prompts(evaluation, setting) -> dict:
    """Pitch-class profiles of prompts, of what is real after them and of what is generated:
    {"prompts", "real", "made": [[12]], "tracks": the number of each one's track}.
    """
    plan, music, rate = evaluation.plan, evaluation.music, evaluation.rate
    length = max(1, round(plan.prompt_seconds * rate / music.chain.top)) * music.chain.top
    found = {"prompts": [], "real": [], "made": [], "tracks": []}
    each = np.bincount(np.arange(plan.continuations) % len(evaluation.test),
                       minlength=len(evaluation.test))
    for number, (track, count) in enumerate(zip(evaluation.test, each, strict=True)):
        free = track.samples - 2 * length
        for place in range(count if free >= 0 else 0):
            x = evaluation.samples(track, free * (place + 1) // (count + 1), 2 * length)
            if np.abs(x[:length]).max() < SILENT:
                continue
            done = len(found["made"])
            evaluation.progress(evaluation.part, "continuations", done / plan.continuations)
            with music.stream(level=setting.depth,
                              begin=music.prompt(x[:length], level=setting.depth),
                              samples=2 * length, seed=plan.seeds[0] + done,
                              sampling=setting.sampling(music.chain)) as stream:
                made = np.concatenate(list(stream))
            for name, sound in (("prompts", x[:length]), ("real", x[length:]),
                                ("made", made[length:])):
                found[name].append(notes.profile(sound, rate).tolist())
            found["tracks"].append(number)
    return found


def share_won(made, real, tracks) -> float:
    """In how many pairs of different tracks a profile is nearer (by cosine) to its own track's real
    one than to the other's; a tie counts half.
    """
    alike, tracks = np.asarray(made) @ np.asarray(real).T, np.asarray(tracks)
    own = np.diag(alike)[:, None]
    pairs = tracks[:, None] != tracks[None]
    return float(((own > alike) + 0.5 * (own == alike))[pairs].mean())
