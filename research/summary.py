"""Prints RESULTS.md: `python -m research.summary`. Held-out tracks stand beside their copies by the
codec, generated pieces and a collage: random grains of the training tracks, which is no music. What
the page calls good or bad follows from the figures by `JUDGED`.
"""

import sys
from pathlib import Path

import numpy as np

from vqwave import cli, progress
from vqwave.commands import arguments
from vqwave.data import scores
from vqwave.data.codes import variants
from vqwave.dsp import beats, clarity
from vqwave.errors import UserError
from vqwave.io import splits
from vqwave.io.files import CHECKOUT, atomic_write, make_folder, printable
from vqwave.play import api, mastering
from vqwave.play.stream import AS_COMPOSED
from vqwave.report import benchmark, tables
from vqwave.report.copying import longest_shared

from . import excerpts, results
from .corpus import Corpus, Plan
from .evaluators import form
from .media import encode_file

GRAIN_SECONDS, GRAIN_FADE = 2.0, 0.01
COPIED = 512  # the level whose codes show copies
PLANTED_SECONDS, PLANTED = 30.0, 4  # of a planted copy; how many training tracks have one
ROW_SECONDS = 15.0  # of each sound to listen to; a generated one continues as much
PIECE_SECONDS = 60.0  # of each piece to listen to
SOUNDS = "docs/results/vqwave"
EFFORT = benchmark.Effort(rounds=3, stream_rounds=2, starts=2, streams=(1,))
OWN = {"windows with a beat": "beat", "notes a second": "notes", "return rate": "returns"}
"""Figures of a page of `research.evaluate`, by the keys in `JUDGED` that they are judged by."""


JUDGED = {"contrast": ("error of contrast", ".1f", 1.5),
          "roughness": ("roughness in dB", ".1f", 1.5),
          "whistle": ("whistle", ".2f", 0.1),
          "on_grid": ("partials near quarter tones", ".2f", 0.04),
          "flicker": ("flicker in dB", ".2f", 0.15),
          "highs": ("energy above 5 kHz in dB", ".1f", 1.5),
          "lufs": ("loudness in dB", ".1f", 1.5),
          "beat": ("windows with a beat", ".2f", 0.15),
          "notes": ("notes a second", ".1f", 0.8),
          "returns": ("return rate", ".2f", 0.15)}
"""{figure: (its name on the page, its format, the most by which good music differs)}."""
ROWS = {f"contrast from {', '.join(map(str, clarity.CONTRAST_BANDS))} Hz": "contrasts",
        f"roughness at {', '.join(map(str, clarity.FRAME_RATES))} Hz, dB": "roughnesses",
        "whistle beyond recordings, share of frames": "whistle",
        "partials near quarter tones (chance 0.20)": "on_grid", "flicker, dB": "flicker",
        "above 5 kHz, dB": "highs", "loudness, LUFS": "lufs", "windows with a beat": "beat",
        "tempo of the middle 80 %, beats a minute": "tempi", "notes a second": "notes",
        "return rate": "returns", "longest copied run by sound, s": "run",
        "longest copied run of heard notes": "melody"}


def parser():
    number = cli.number
    parser = cli.parser(" ".join(__doc__.split()), "--data-dir data/wesnoth")
    arguments.add_data(parser)
    parser.add_argument("--split", metavar="F.yml", help="default: recipes/NAME/split.yml")
    parser.add_argument("--minutes", type=number(above=0), default=2.0, metavar="M",
                        help="length of a piece, and the most of a track")
    parser.add_argument("--seeds", type=number(int, 0), nargs="+", default=[*range(1, 11)],
                        metavar="S", help="a piece is generated for each")
    parser.add_argument("--offsets", type=number(int, 1), default=2, metavar="N",
                        help="alignments of the training tracks that copies are searched in")
    parser.add_argument("--listen", nargs="+", metavar="TRACK", help="held-out tracks to listen to",
                        default=["love_theme", "frantic", "wanderer", "silvan_sanctuary"])
    parser.add_argument("--own", metavar="PAGE.md", help="a page of research.evaluate: own music",
                        default="research/results/singularity_timed_own.md")
    arguments.add_weights(parser)
    parser.add_argument("--output-dir", default=str(CHECKOUT), metavar="DIR", type=Path,
                        help="where RESULTS.md is")
    return parser


def collage(corpus: Corpus, seed: int, count: int) -> np.ndarray:
    """Random grains of the training tracks, one after the other: float32 [count]."""
    random, size = np.random.default_rng(seed), round(GRAIN_SECONDS * corpus.rate)
    tracks, grains = [t for t in corpus.train if t.samples > size], []
    shares = np.array([t.samples for t in tracks]) / sum(t.samples for t in tracks)
    while len(grains) * size < count:
        track = tracks[random.choice(len(tracks), p=shares)]
        grain = corpus.samples(track, int(random.integers(track.samples - size)), size)
        grains.append(mastering.fade(grain, 0, round(GRAIN_FADE * corpus.rate), size))
    return np.concatenate(grains)[:count]


def tones(notes, samples: int, rate: int) -> np.ndarray:
    """A score as plain tones, which decay: float32 [samples]. notes: (first sample, sample after
    the last, MIDI number, velocity) each.
    """
    sound = np.zeros(samples)
    for first, last, midi, velocity in notes:
        part = sound[max(0, first) : max(0, last)]
        seconds = np.arange(len(part)) / rate
        angle = 2 * np.pi * 440 * 2 ** ((midi - 69) / 12) * seconds
        wave = np.sin(angle) + 0.3 * np.sin(2 * angle)
        part += mastering.fade(velocity / 127 * wave * np.exp(-2 * seconds), 0,
                               round(GRAIN_FADE * rate), len(part))
    return (sound / max(1.0, np.abs(sound).max())).astype(np.float32)


def measure(sounds: list[np.ndarray], real: list[clarity.Clarity] | None, rate: int) -> dict:
    """The figures of sounds, float32 [samples] each, by the keys of `JUDGED` and `ROWS`; `lines`,
    their top lines, and `clear`, their clarity. real: the clarity of recordings.
    """
    clear, heard = ([one(sound, rate) for sound in sounds]
                    for one in (clarity.measure, form.measure))
    mean = clarity.mean(clear).figures
    tempi = np.quantile([60 / np.median(np.diff(beats.find_beats(sound, rate)))
                         for sound in sounds], [0.1, 0.9])
    compared = clarity.compare(real, clear) if real else {}
    return mean | {key: form.mean([row[name] for row in heard]) for name, key in OWN.items()
                   if name in heard[0]} | {
        "contrasts": " ".join(f"{mean[f'contrast_{band}']:.0f}" for band in clarity.CONTRAST_BANDS),
        "roughnesses": " ".join(f"{mean[f'roughness_{x}']:.1f}" for x in clarity.FRAME_RATES),
        "lufs": form.mean([mastering.loudness(sound, rate) for sound in sounds]),
        "tempi": "–".join(f"{tempo:.0f}" for tempo in tempi), "clear": clear,
        "lines": [np.array(row["line"]) for row in heard]
        } | {key: compared.get(key) for key in ("contrast", "roughness", "whistle")}


def judge(real: dict, side: dict) -> tuple[list[str], list[str]]:
    """What a side is good and bad at, as texts: the nearest first, and the farthest first."""
    texts: tuple[list, list] = [], []
    for key, (title, spec, most) in JUDGED.items():
        value, own = side[key], real[key]
        difference = value if own is None else abs(value - own)
        beside = "more than" if own is None else f"for {own:{spec}} in"
        texts[difference > most].append((difference / most,
                                         f"{title} ({value:{spec}} {beside} recordings)"))
    good, bad = map(sorted, texts)
    return [text for _, text in good], [text for _, text in reversed(bad)]


def copied_seconds(corpus: Corpus, training: list[np.ndarray], sound: np.ndarray) -> float:
    """The seconds of the longest run of codes that a sound, float32 [samples], has in common with
    training tracks, int [frames, books] each.
    """
    codes = corpus.music.encode(sound, COPIED)
    return longest_shared(codes, training, None) * COPIED / corpus.rate


def plant(corpus: Corpus, track) -> tuple[np.ndarray, np.ndarray]:
    """A copy of the middle of a track, as it is and through the codec: float32 [samples] each."""
    count = round(PLANTED_SECONDS * corpus.rate)
    sound = corpus.samples(track, (track.samples - count) // 2 + COPIED // 3, count)
    return sound, corpus.music.decode(corpus.music.encode(sound, COPIED), COPIED)


def add_copies(corpus: Corpus, sides: dict[str, tuple[list, dict]], offsets: int) -> str:
    """Add the longest copied runs to the figures of each side; returns the power of the search."""
    training = [codes for _, codes in corpus.codes(COPIED, corpus.train, variants(offsets))]
    lines = [form.heard_moves(np.array(form.of_track(corpus, track, track.seconds)["line"]))
             for track in corpus.train]

    def notes(line):
        return 1 + longest_shared(form.heard_moves(np.array(line)), lines)

    for sounds, figures in sides.values():
        figures["run"] = max(copied_seconds(corpus, training, x) for x in sounds)
        figures["melody"] = max(map(notes, figures["lines"]))
    tracks = [t for t in corpus.train if t.seconds > 2 * PLANTED_SECONDS]
    planted = [plant(corpus, track) for track in tracks[:: -(-len(tracks) // PLANTED)]]
    found = [(np.mean([copied_seconds(corpus, training, x) for x in each]),
              np.mean([notes(form.measure(x, corpus.rate)["line"]) for x in each]))
             for each in zip(*planted, strict=True)]
    return (f"Power: of {PLANTED_SECONDS:.0f} s copied from a training track, the search by sound "
            "finds {:.1f} s, and by notes {:.0f} notes; after the codec, {:.1f} s and {:.0f} "
            "notes.".format(*found[0], *found[1]))


def write_sound(corpus: Corpus, name: str, sound: np.ndarray, folder: Path) -> str:
    """Write a sound, all at one loudness; returns its path in `folder`."""
    path = f"{SOUNDS}/{name}.ogg"
    with atomic_write(make_folder(folder / SOUNDS) / Path(path).name) as file:
        file.write(encode_file(mastering.normalize(sound, corpus.rate), corpus.rate, "libopus",
                               32000, frame_duration=20, vbr="on"))
    return path


def listen(corpus: Corpus, names: list[str], folder: Path) -> list[list[str]]:
    """Write the sounds of each row; returns the cells of the table."""
    count, rows = corpus.cut(round(ROW_SECONDS * corpus.rate)), []
    codec = corpus.music.codec(corpus.plan.depth)
    for seed, name in enumerate(names, 1):
        track = next((t for t in corpus.tracks if splits.is_named(t, [name])), None)
        if track is None or track.samples < 2 * count:
            raise UserError(f"--listen: {name} is no held-out track of {2 * ROW_SECONDS:.0f} s")
        first_sample = (track.samples - count) // 3
        recording = corpus.samples(track, first_sample, count)
        performed = corpus.music.generate(
            level=corpus.plan.depth, samples=first_sample + count, seed=seed,
            score=scores.of_track(corpus.data_dir, track), **AS_COMPOSED)[first_sample:]
        prompt = corpus.music.prompt(recording, level=corpus.plan.depth)
        with corpus.music.stream(level=corpus.plan.depth, samples=2 * count, seed=seed,
                                 begin=prompt, **AS_COMPOSED) as stream:
            generated = np.concatenate([*stream])[count:]
            notes = [(first - count, last - count, midi, velocity) for first, last, midi, velocity
                     in stream.notes(0, 2 * count) if last > count]
        cells = [name.replace("_", " ").capitalize()]
        for kind, sound in (("recording", recording), ("codec", excerpts.decode(codec, recording)),
                            ("performed", performed), ("generated", generated),
                            ("tones", tones(notes, count, corpus.rate))):
            cells.append(f"[{kind}]({write_sound(corpus, f'{name}_{kind}', sound, folder)})")
        rows.append(cells)
    return rows


def own_music(page: Path) -> str:
    """A row of own music, of a page of `research.evaluate`."""
    lines = page.read_text(encoding="utf-8").splitlines()
    read = dict(line.strip("| ").split(" | ")[::3][:2] for line in reversed(lines)
                if line.count(" | ") > 2)  # of two figures of one name, the heard one comes first
    real, own = ({key: float(read[f"{name}, {who}"]) for name, key in OWN.items()}
                 for who in ("real", "generated"))
    cells, missed = [], []
    for key, value in own.items():
        title, spec, most = JUDGED[key]
        cells.append(f"{title} {value:{spec}} ({real[key]:{spec}})")
        missed += [title] * (abs(value - real[key]) > most)
    name = page.stem.split("_")[0].capitalize()
    return (f"| [{name}](research/results/{page.name}) | {'; '.join(cells)} | "
            f"{', '.join(missed) or 'none'} |")


def speed(music: api.VQWave, folders) -> str:
    """A row of speeds, in times real time, measured in one run."""
    found = benchmark.run(("codecs", "stream", "start"), *folders, EFFORT)
    ending, bottom = music.chain.ending, music.chain.bottom
    stream, codec, start = ({row["level"]: row for row in found[part]}
                            for part in ("stream", "codecs", "start"))
    about = found["machine"]
    cells = (f"{about['cpu']}, {about['cores']} cores", f"{stream[ending]['rtf']:.1f} ×",
             f"{stream[bottom]['rtf']:.1f} ×", f"{codec[ending]['decode_rtf']:.0f} ×",
             f"{start[ending]['cold_sound_s']:.1f} s")
    return tables.render([cells], ["machine", "the default chain", f"down to {bottom}x",
                                   "its decoder alone", "from Enter to sound"])


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    name = Path(args.data_dir).resolve().name
    split = Path(args.split or CHECKOUT / "recipes" / name / "split.yml")
    music = api.load(args.vqvae_weights_dir, args.generator_weights_dir)
    plan = Plan(music.chain.ending, seeds=tuple(args.seeds), minutes=args.minutes)
    with progress.share_bar() as show:
        corpus = Corpus(music, args.data_dir, split, plan, progress=show)
        corpus.tracks = [*corpus.sides["test"], *corpus.sides["fresh"]]
        count, codec = round(60 * args.minutes * corpus.rate), music.codec(plan.depth)
        real = [corpus.samples(track)[:count] for track in corpus.tracks]
        sounds = {"real": real, "codec": [excerpts.decode(codec, sound) for sound in real],
                  "generated": [corpus.sound(seed) for seed in args.seeds],
                  "collage": [collage(corpus, seed, count) for seed in args.seeds]}
        sides: dict[str, tuple[list, dict]] = {}
        for number, (side, each) in enumerate(sounds.items()):
            show(f"measuring {side}", number / len(sounds))
            clear = sides["real"][1]["clear"] if sides else None
            sides[side] = each, measure(each, clear, corpus.rate)
        figures = {side: values for side, (_, values) in sides.items()}
        rates = dict(form.return_rates({side: x["lines"] for side, x in figures.items()}))
        for side, values in figures.items():
            values["returns"] = rates.get(f"return rate, {side}", 0.0)
        power = add_copies(corpus, sides, args.offsets)
        rows = listen(corpus, args.listen, args.output_dir)
        short = corpus.cut(round(PIECE_SECONDS * corpus.rate))
        pieces = [f"[{seed}]({write_sound(corpus, f'seed_{seed}', x[:short], args.output_dir)})"
                  for seed, x in zip(args.seeds, sides["generated"][0], strict=True)]
    folders = [music.weight_set(names[music.chain.top]).folder
               for names in (music.chain.codecs, music.chain.generators)]
    text = page(corpus, argv, figures, [f"{side}, {sum(map(len, each)) / corpus.rate:.0f} s"
                                        for side, each in sounds.items()], power, rows, pieces,
                own_music(CHECKOUT / args.own), speed(music, folders))
    with atomic_write(args.output_dir / "RESULTS.md") as file:
        file.write(text.encode())
    print(f"wrote {printable(args.output_dir / 'RESULTS.md')}")
    return 0


def page(corpus: Corpus, argv, figures, titles, power, rows, pieces, own, speeds) -> str:
    """The text of RESULTS.md."""
    good, bad = judge(figures["real"], figures["generated"])
    worse = judge(figures["real"], figures["codec"])[1]
    split = splits.read_split(corpus.split)
    specs = {key: spec for key, (_, spec, _) in JUDGED.items()} | {"run": ".1f", "melody": ".0f"}
    table = tables.render(
        [{"figure": title} | {side: format(value, specs.get(key, ""))
                              for side, values in figures.items()
                              if (value := values[key]) is not None}
         for title, key in ROWS.items()],
        [tables.Column("figure", "figure"), *(tables.Column(title, side) for title, side in zip(
            titles, figures, strict=True))])
    chosen = ". By the fresh tracks: ".join(" ".join(text.split()) for text in (
        split.chosen_by_test, split.chosen_by_fresh) if text)
    return results.page(
        "Results", "summary", argv,
        f"**Good at:** generated music is near recordings in {'; '.join(good) or 'nothing'}. "
        f"**Bad at:** it is far in {'; '.join(bad) or 'nothing'}. The codec alone is far in "
        f"{'; '.join(worse) or 'nothing'}. **Measured** by programs, on {len(corpus.tracks)} "
        "tracks that trained no model; no listener has voted yet ([blind test](docs/evaluation.md"
        "#a-blind-test)).",
        f"Listen: {ROW_SECONDS:.0f} s of held-out tracks, all at one loudness. The performer plays "
        "the track's score in the sound of training tracks. What is generated continues the "
        "recording; the tones play its score.",
        tables.render(rows, ["track", "recording", "its codec", "its score, performed",
                             "generated in that style", "the same score as plain tones"]),
        f"The beginnings of composed pieces, by seed: {', '.join(pieces)}.",
        f"The table has the default chain, with seeds {', '.join(map(str, corpus.plan.seeds))}, as "
        f"composed. The *collage* is random grains of {GRAIN_SECONDS:.0f} s of the training "
        "tracks: no music, so a figure in which it equals recordings says little. "
        "[Definitions](docs/evaluation.md).",
        table, f"{power} A longer run in recordings is chance.",
        f"| own music | generated (recordings) | misses |\n|---|---|---|\n{own}", speeds,
        f"Chosen by the test tracks: {chosen}. By the music of Warzone 2100, nothing: "
        "[the codec's clarity there](research/results/clarity.md). More: "
        "[all tables](research/results), [what was tried](research/sound.md).")


if __name__ == "__main__":
    sys.exit(cli.entry(main))
