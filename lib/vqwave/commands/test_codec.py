"""Listen to and measure what a codec keeps of a piece of music."""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from .. import cli, plots, progress
from ..config import CodecConfig
from ..dsp import metrics
from ..errors import UserError
from ..io import audio, labels, silence, weights
from ..io.files import make_folder, printable
from ..play import engine
from ..progress import QuietReporter
from ..report import serving
from ..report.reconstruction import reconstruct
from . import arguments

COLUMNS = (
    ("SC dB", "sc_db", "{:.2f}"), ("mel", "mel", "{:.3f}"), ("SI-SDR dB", "si_sdr_db", "{:.2f}"),
    ("kbit/s", "bitrate_kbps", "{:.2f}"), ("usage", "usage", "{:.1%}"),
    ("perplexity", "perplexity", "{:.0f}"), ("latency ms", "latency_ms", "{:.0f}"),
    ("encode", "encode_speed", "{:.0f} ×"), ("decode", "decode_speed", "{:.0f} ×"),
)


def parser() -> argparse.ArgumentParser:
    """What the command can be told."""
    parser = cli.parser(
        "Hear what a codec keeps of a recording: encodes and decodes it, writes what comes back as "
        "a wav file, and prints how near it is.\n"
        "SC and mel: lower is nearer. SI-SDR: higher is nearer. Latency: how much of the recording "
        "must be there before the first of it can be heard. Encode and decode: how many times "
        "faster than it plays.\n"
        "Of a data folder it says whether the codec serves that music: how many of the notes of "
        "held-out tracks it keeps, mel, the Fréchet distance, and a verdict.",
        "--model all --input song.mp3 --output-dir heard",
        "--model all --data-dir data/my_music",
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="a codec's name, or all")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--input", metavar="FILE",
                      help="a recording, in any common format and of any length")
    what.add_argument("--data-dir", metavar="DIR",
                      help="a data folder that `prepare` made: its held-out tracks")
    arguments.add_held_out(parser)
    arguments.add_musicnn(parser)
    parser.add_argument("--note", action="store_true",
                        help="with --data-dir, of the music that the codecs were trained on: write "
                             "the figures into their YAML files, as what they should do elsewhere")
    parser.add_argument("--output-dir", metavar="DIR",
                        help="where the wav file goes, with a picture of both (default: this "
                             "folder, and no picture)")
    parser.add_argument("--start", type=cli.number(least=0), default=0.0,
                        metavar="S", help="seconds to skip first")
    parser.add_argument("--seconds", type=cli.number(above=0), metavar="S",
                        help="seconds to take (default: to the end)")
    arguments.add_codecs(parser, with_chain=True)
    arguments.add_epoch(parser, "codecs")
    parser.add_argument("--books", type=cli.number(int, 1), metavar="N",
                        help="of a residual codec only the first N codebooks, for fewer bits "
                             "(default: all)")
    arguments.add_label(parser)
    parser.add_argument("--engine", choices=engine.ENGINES, default=engine.ENGINES[0],
                        help="what runs the codec")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)

    codecs = weights.find_folder(args.vqvae_weights_dir, weights.CODECS)
    # All of them before any work: a missing one is found now, not after minutes.
    names = weights.chain(codecs).codecs.values() if args.model == "all" else [args.model]
    found = [weights.find(codecs, name, args.epoch) for name in names]
    if wrong := [one for one in found if not isinstance(one.config, CodecConfig)]:
        raise UserError(f"{wrong[0].name} is a generator; --model names a codec")
    if args.data_dir:
        if args.books:
            raise UserError("--books is of what is heard of --input: with --data-dir a codec is "
                            "judged with all of its codes")
        if args.label:
            raise UserError("--label is of --input: of a data folder a codec is told what each "
                            "track is")
        return _print_judged(args, found)
    for one in found:
        one.config.check_books(args.books)
    if args.note:
        raise UserError("--note needs --data-dir: one recording says little of what a codec does "
                        "at home")
    folder = make_folder(args.output_dir or ".")
    console = Console(stderr=True)
    rows, decoded, verbs = [], {}, {}
    for one in found:
        console.print(printable(one.summary), markup=False, highlight=False, soft_wrap=True)
        rate = one.config.sample_rate
        with console.status(f"{one.name}: encoding, decoding, "
                            f"comparing"):  # draws nothing where no terminal is
            if rate not in decoded:
                decoded[rate] = audio.excerpt(args.input, rate, args.start, args.seconds)
            original = decoded[rate]
            made, figures = reconstruct(engine.load_codec(one, args.engine), original, args.books,
                                        args.label)
            # nothing comes near silence, or is far from it
            if np.var(original) <= metrics.SILENCE_POWER:
                figures |= dict.fromkeys(("sc_db", "mel", "si_sdr_db"))
                console.print(f"{printable(args.input)}: is silent; how near silence is cannot be "
                              f"measured",
                              markup=False, highlight=False, soft_wrap=True)
            output = folder / f"{Path(args.input).stem}_{one.name}.wav"
            verbs |= {str(p): "replaced" for p in (output, output.with_suffix(".png"))
                      if p.exists()}
            audio.write(output, made, rate)
            files = {"wav": str(output)}
            if args.output_dir:
                files["picture"] = str(output.with_suffix(".png"))
                title = f"{printable(Path(args.input).name)}: {one.name}"
                if "bitrate_kbps" in figures:
                    title += f", {figures['bitrate_kbps']:.2f} kbit/s"
                plots.waveform_and_spectrogram(original, made, files["picture"],
                                               rate, title, args.start)
        rows.append({"model": one.name, "set": one.tag, "seconds": len(original) / rate,
                     **figures, **files})
    if args.json:
        print(json.dumps({"input": args.input, "engine": args.engine, "models": rows}, indent=2))
    else:
        print_table(rows, verbs)
    return 0


class Judged(NamedTuple):
    """Whether codecs serve the music of a data folder: a row for each codec, the lines of a table,
    and the tracks, which are held out unless the folder has too few.
    """

    rows: list[dict]
    lines: list[str]
    tracks: list
    held_out: bool


def judge(found: list[weights.WeightSet], data_dir, split, seed: int = 0, musicnn=None,
          engine_name: str = engine.ENGINES[0], note: bool = False) -> Judged:
    """Measure codecs on the held-out tracks of a data folder.

    Args:
        split, seed: see `splits.split`. note: write the figures into the codecs' YAML files.
    """
    console = Console(stderr=True)
    (train, held_out), spans = silence.read_sides(data_dir, split, seed, found[0].trim_silence,
                                                  QuietReporter())
    # A folder of one track holds nothing out, and a codec that was trained elsewhere has not heard
    # that track either.
    tracks = held_out or train
    for codec in found:
        rate = tracks[0].sample_rate
        if codec.config.sample_rate != rate:
            raise UserError(f"{data_dir}: is at {rate} Hz, {codec.name} at "
                            f"{codec.config.sample_rate} Hz")
    excerpts = serving.excerpts_of(data_dir, tracks, spans)
    embed = serving.load_embedder(musicnn, lambda line: console.print(
        line, markup=False, highlight=False, soft_wrap=True))
    rows = []
    with progress.bar() as bar:
        for codec in found:
            task = bar.add_task(codec.name, total=1.0)
            figures = serving.measure(engine.load_codec(codec, engine_name),
                                      [sound for _, sound in excerpts], embed,
                                      lambda share, task=task: bar.update(task, completed=share),
                                      [labels.told(track, codec.config.labels)
                                       for track, _ in excerpts])
            bar.remove_task(task)
            if note:
                weights.note(codec, **{serving.KEY: figures})
            rows.append(serving.judged(codec, figures, figures if note else None) | {
                "set": codec.tag, "level": codec.config.level,
                "kbps": metrics.bitrate(codec.config) if codec.config.has_codes else None})
    lines = [*serving.table(rows), *serving.overlaps(found, held_out)]
    return Judged(rows, lines, tracks, bool(held_out))


def _print_judged(args, found) -> int:
    """Print whether each codec serves the music of a data folder."""
    judged = judge(found, args.data_dir, *arguments.held_out(args, found[0].folder),
                   args.musicnn, args.engine, args.note)
    if args.json:
        print(json.dumps({"data_dir": args.data_dir, "engine": args.engine,
                          "tracks": len(judged.tracks), "held_out": judged.held_out,
                          "models": judged.rows, "table": judged.lines}, indent=2))
    else:
        for line in judged.lines:
            print(line)
    return 0


def print_table(rows, verbs):
    """The figures, and the files that were written. verbs: of files that stood there before."""
    def cells(figures):
        return ("" if key not in figures else "–" if figures[key] is None
                else form.format(figures[key])
                for _, key, form in COLUMNS)

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # a file or a pipe has no width to fit
    table = Table("codec")
    for title, _, _ in COLUMNS:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(row["model"], *cells(row))
        for i, book in enumerate(row.get("books", ())):
            table.add_row(f"  book {i + 1}", *cells(book))
    console.print(table)
    for row in rows:
        for key in ("wav", "picture"):
            if key in row:
                console.print(f"{verbs.get(row[key], 'wrote')} {printable(row[key])}", markup=False,
                              highlight=False, soft_wrap=True)
