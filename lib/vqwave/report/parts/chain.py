"""How far generated music is from real music, as sound and by its notes."""

from __future__ import annotations

import numpy as np

from ... import plots
from ...dsp.notes import STATISTICS
from ...io import audio
from ..media import EXAMPLE_SECONDS
from .part import DistanceTarget, Part, by_size, side_by_side, spread

PIECES = (1, 2, 3)
"""Seeds of the generated examples."""


class Chain(Part):
    """A row for each setting: {"setting", "depth", "fad": mean over the seeds, "each": [fad],
    "seconds", …}.
    """

    name = "chain"
    fresh = True

    def measure(self, evaluation):
        rows, plan, chain = [], evaluation.plan, evaluation.music.chain
        for setting in plan.settings:
            each = []
            for seed in plan.seeds:
                key = {"figure": "chain", "seed": seed, "minutes": plan.minutes,
                       **setting.key(chain),
                       "by": evaluation.chain_key(setting.depth),
                       "test": evaluation.corpus(evaluation.test)}
                each.append(evaluation.figure(key, lambda s=setting, seed=seed: evaluation.distance(
                    evaluation.piece_embeddings(s, seed), 60 * plan.minutes),
                                              f"{setting}, seed {seed}"))
            distances = [row["fad"] for row in each]
            rows.append({"setting": str(setting), "depth": setting.depth} | each[0] | {
                "fad": float(np.mean(distances)), "each": distances})
        return rows

    def figures(self, chain):
        return (DistanceTarget.of("Fréchet distance of the chain", lambda results: next(
            iter(results.get("chain") or ()), None)),)

    def draw(self, results, evaluation, gallery):
        setting, rate, chain = evaluation.plan.settings[0], evaluation.rate, evaluation.music.chain
        pieces, sounds = generate_examples(evaluation)
        for seed, sound in zip(PIECES, sounds.values(), strict=True):
            gallery.example(f"generated_{seed}.ogg", sound)
        gallery.picture("generated.png", plots.spectrograms, sounds, sample_rate=rate,
                        title=f"Generated {setting}")
        part, levels = 10 * rate, setting.levels(chain)
        codes = {x: pieces[0][f"codes_{x}"][: part // x] for x in levels}
        shades = {x: plots.codec_shades(evaluation.music.codec(x)) for x in levels}
        title = f"Ten seconds of seed {PIECES[0]}, as it is made: from the top down"
        gallery.picture("codes.png", lambda path: plots.codes(
            codes, shades, path, rate, chain.top, sounds[f"seed {PIECES[0]}"][:part], title=title))

    def write(self, page, sides, evaluation):
        plan = evaluation.plan
        page.heading("The chain")
        page.add(f"The distance of {plan.minutes:g} minutes of generated music to the tracks"
                 + (f", mean of {len(plan.seeds)} seeds (each)." if len(plan.seeds) > 1 else "."))
        page.tables(*by_size({side: found[self.name] for side, found in sides.items()}, ("chain",),
                             lambda row: (row["setting"],)))
        if found := [found["notes"] for found in sides.values() if "notes" in found]:
            page.add("How it uses notes: the divergence of its statistics from the tracks', in "
                     "bits, 0 (alike) to 1: how long notes last, the intervals of the strongest "
                     "line, the harmony a second later and how well ten seconds fit a key. Then "
                     "notes a second of the strongest line, and how alike the harmony is a second "
                     "later. Other real music shows the scale.")
            page.tables(side_by_side(list(map(_notes, found))))
        page.listen([(f"generated_{seed}.ogg", f"seed {seed}") for seed in PIECES])
        page.picture("generated.png", "Waveform and spectrogram of three generated pieces")
        page.picture("codes.png", "The codes of a generated piece under its spectrogram")


def _notes(found):
    def cells(row):
        return (*(f"{row[key]:.3f}" if key in row else "" for key in STATISTICS),
                spread(row["line"], row.get("lines", ()), ".1f"), f"{row['alike']:.2f}")

    return [("", "durations", "intervals", "harmony", "key", "notes a second",
             "alike a second later"),
            *((row["what"], *cells(row)) for row in found["music"]),
            *((row["setting"], *cells(row)) for row in found["chain"])]


def generate_examples(evaluation) -> tuple[list[dict], dict[str, np.ndarray]]:
    """The generated examples of the first setting: `Evaluation.piece` of each of `PIECES`, and
    {"seed 1": float32 [samples], …}.
    """
    pieces = [evaluation.piece(evaluation.plan.settings[0], seed, EXAMPLE_SECONDS / 60)
              for seed in PIECES]
    return pieces, {f"seed {seed}": audio.from_u16(piece["audio"])
                    for seed, piece in zip(PIECES, pieces, strict=True)}
