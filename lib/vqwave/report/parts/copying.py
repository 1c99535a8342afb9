"""What is copied: the longest run of generated codes that stands in the training set, and the
nearest training passage.
"""

from __future__ import annotations

import itertools

import numpy as np

from ...data.codes import variants
from ...dsp import metrics
from ...io import audio
from ...io.splits import track_name
from .. import fad
from ..benchmark import Target
from ..copying import HELD_FRAMES, HELD_SECONDS, Run, find_held, longest_shared
from .part import Part, table


class Copying(Part):
    """{"setting", "codes": a row a level, "passages": …}: what of the first setting's piece stands
    in the training set.

    The same is told of the test tracks, which nobody copied: what chance and music alone make
    alike. Where a generator was trained with transposition or gain, it is searched in the training
    set as that changed it, too.
    """

    name = "copying"

    def measure(self, evaluation):
        plan, chain = evaluation.plan, evaluation.music.chain
        setting, seed = plan.settings[0], plan.seeds[0]
        rows = []
        common = {"minutes": plan.minutes, "seed": seed, **setting.key(chain),
                  "train": evaluation.corpus(evaluation.copyable),
                  "test": evaluation.corpus(evaluation.test)}
        common |= {key: most for key, most in changes(evaluation).items() if most}
        for level in setting.levels(chain):
            key = {"figure": "copied", "at": level, **common, "offsets": plan.offsets,
                   "by": evaluation.chain_key(setting.depth) | evaluation.codec_key(level)}
            row = evaluation.figure(key, lambda x=level: find_copies(evaluation, x),
                                    f"copies at {level}x")
            moving = evaluation.figure(key | {"moving": [HELD_SECONDS, HELD_FRAMES]},
                                       lambda x=level: find_copies(evaluation, x, moving=True),
                                       f"copied melodies at {level}x")
            rows.append(row | {"moving": moving})
        key = {"figure": "nearest", **common, "by": evaluation.chain_key(setting.depth),
               "where": True}
        return {"setting": str(setting), "codes": rows, "passages": evaluation.figure(
            key, lambda: find_nearest(evaluation), "the nearest training passage")}

    def figures(self, chain):
        def excess(results):
            rows = results["copying"]["codes"] if "copying" in results else ()
            return (max(row["moving"]["seconds"] - row["moving"]["held_out_seconds"]
                        for row in rows),
                    [row["level"] for row in rows]) if rows else None

        return (Target("longest copy but for held sounds, beyond test music's own, worst "
                       "level", "≤", None, None, "s",
                       excess),)

    def write(self, page, sides, evaluation):
        for side, results in sides.items():
            found, most = results[self.name], changes(evaluation)
            words = [f"transposed by up to {most['transpose']} semitones up or "
                     f"down"] * bool(most["transpose"])
            words += [f"up to {most['gain']:g} dB quieter"] * bool(most["gain"])
            how = f" or {' or '.join(words)}, as in training" if words else ""
            page.heading("How much is copied" + (f", beside {side} "
                                                 f"tracks" if len(sides) > 1 else ""))
            page.add(f"The longest run of codes of the generated piece ({found['setting']}) that "
                     f"stands in the training set, under any of {evaluation.plan.offsets} "
                     f"alignments{how}; and, for comparison, of test music, which copies nothing. "
                     f"A run of few different codes is a held sound, not a melody; so the last "
                     f"columns leave out every second with no more than {HELD_FRAMES} different "
                     f"frames.")
            page.add(*table(("level", "generated", "different codes", "where",
                             "test music", "melodies",
                             "test music's"), [
                (f"{row['level']}x", f"{row['codes']} codes, {row['seconds']:.2f} "
                                     f"s", str(row["distinct"]),
                 _where(row), f"{row['held_out_codes']} codes, "
                 f"{row['held_out_seconds']:.2f} s, {row['held_out_distinct']} different",
                 f"{row['moving']['seconds']:.2f} s", f"{row['moving']['held_out_seconds']:.2f} s")
                for row in found["codes"]]))
            near = found["passages"]
            page.add("The distance of each three seconds to the most alike three seconds of the "
                     "training set, by the embedding (0 is the same sound):")
            page.add(*table(("", "nearest of all", "where", "median"), [
                (what, f"{near[key]['least']:.2f}", f"{near[key].get('of', 'the piece')} at "
                                                    f"{near[key]['at']:.1f} s "
                 f"({near[key]['loudness_db']:.0f} dBFS), {_where(near[key])}",
                 f"{near[key]['median']:.2f}")
                for what, key in (("generated", "generated"), ("test music", "held_out"))]))


def _where(row) -> str:
    """The place in the training set that a row names; `track_at` is of the track as it is."""
    return f"{row['track']} at {row['track_at']:.1f} s" + (
        f", {row['shift']:+d} semitones" if row.get("shift") else "")


def changes(evaluation) -> dict:
    """{"transpose": semitones, "gain": dB}: the most by which a generator of the first setting
    heard its training tracks changed, by the config that it was trained with; 0 where that is
    unknown.
    """
    chain = evaluation.music.chain
    trained = [evaluation.music.weight_set(chain.generator(level)).training
               for level in evaluation.plan.settings[0].levels(chain)]
    return {key: max(getattr(training, key) if training else 0 for training in trained)
            for key in ("transpose", "gain")}


def find_copies(evaluation, level: int, moving: bool = False) -> dict:
    """The longest run of codes of a level that the first setting's piece shares with the training
    set, in all alignments, and transposed and quieter where a generator heard it so.

    Memory: the codes of the training set at one pitch, and their hashes, at a time.

    Args:
        moving: leave out what is held, see `HELD_SECONDS`.
    """
    plan, rate = evaluation.plan, evaluation.rate
    config = evaluation.music.weight_set(evaluation.music.chain.generator(level)).config
    length = max(2, round(HELD_SECONDS * rate / level))
    pieces = [evaluation.piece(plan.settings[0], plan.seeds[0])[f"codes_{level}"], np.concatenate(
        [evaluation.music.encode(x, level) for x in evaluation.passages().values()])]
    barred = [find_held(codes, length, HELD_FRAMES) if moving else None for codes in pieces]
    best: list[tuple] = [(Run(-1),)] * len(pieces)
    heard = variants(plan.offsets, level=config.source_level or level, **changes(evaluation))
    pitches = [list(same) for _, same in itertools.groupby(heard, lambda variant: variant.shift)]
    for done, same in enumerate(pitches):
        evaluation.progress(evaluation.part, f"copies at {level}x", done / len(pitches))
        training = evaluation.codes(level, evaluation.copyable, same)
        corpus = [codes for _, _, codes in training]
        for i, codes in enumerate(pieces):
            run = longest_shared(codes, corpus, barred[i])
            if run.length > best[i][0].length:
                best[i] = (run, *training[run.track][:2])
    (run, track, variant), (control, *_) = best
    found = {"level": level, "codes": run.length, "seconds": run.length * level / rate,
             "distinct": run.distinct,
             "at": run.position * level / rate, "track": track_name(track),
             "track_at": (run.other * level + variant.start) * 2 ** (variant.shift / 12) / rate,
             "held_out_codes": control.length, "held_out_seconds": control.length * level / rate,
             "held_out_distinct": control.distinct}
    return found | ({"shift": variant.shift} if variant.shift else {})


def find_nearest(evaluation) -> dict:
    """The distance from the piece, and from the test tracks, to the nearest three seconds of the
    training set, transposed too where a generator heard it so.

    Returns:
        {"generated", "held_out"}: {"least", "median", and where the least is: "at", "track",
        "track_at", "shift" where that is transposed (and "of": in which test track)};
        "loudness_db": of the three seconds that are nearest: two endings that fade out are alike,
        and no copy.
    """
    setting, seed, rate = evaluation.plan.settings[0], evaluation.plan.seeds[0], evaluation.rate
    tracks = evaluation.copyable

    def list_places(name, tracks, shift=0):
        """[(track, second of it)] of each patch of `embeddings`."""
        return [(track_name(t), i * fad.STEP_SECONDS * 2 ** (shift / 12)) for t in tracks
                for i in range(len(evaluation.embeddings(name, [t], shift)))]

    piece = audio.from_u16(evaluation.piece(setting, seed)["audio"])
    named = {track_name(t): t for t in evaluation.test}
    shifts = [v.shift for v in variants(1, changes(evaluation)["transpose"])]
    made = {}
    for name, patches in (("generated", evaluation.piece_embeddings(setting, seed)),
                          ("held_out", evaluation.reference)):
        distances, places = np.full(len(patches), np.inf), [("", 0.0, 0)] * len(patches)
        for shift in shifts:
            where = list_places("the training tracks", tracks, shift)
            there, others = fad.nearest(patches,
                                        evaluation.embeddings("the training tracks", tracks, shift))
            for i in np.flatnonzero(there < distances):
                distances[i], places[i] = there[i], (*where[others[i]], shift)
        first = int(distances.argmin())
        made[name] = {"least": float(distances[first]), "median": float(np.median(distances)),
                      "at": first * fad.STEP_SECONDS}
        made[name]["track"], made[name]["track_at"], shift = places[first]
        made[name] |= {"shift": shift} if shift else {}
        if name == "held_out":
            places = list_places("the test tracks", evaluation.test)
            made[name]["of"], made[name]["at"] = places[first]
        begin = round(made[name]["at"] * rate)
        sound = piece if name == "generated" else evaluation.samples(named[made[name]["of"]])
        made[name]["loudness_db"] = metrics.rms_db(sound[begin : begin
                                                         + round(fad.PATCH_SECONDS * rate)])
    return made
