"""Measure how well codecs reconstruct a recording, and write the reconstructions."""

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console

from .. import cli, plots, progress
from ..codecs import CodecConfig
from ..dsp import metrics
from ..errors import UserError
from ..io import audio, defaults, silence, weights
from ..io.files import check_replaced, make_folder, printable
from ..play import engine
from ..report import fad, judge, tables
from . import arguments

CODEC_COLUMNS = (
    *(metric.column for metric in judge.METRICS),
    tables.Column("kbit/s", "bitrate_kbps", ".2f"), tables.Column("usage", "usage", ".1%"),
    tables.Column("perplexity", "perplexity", ".0f"),
    tables.Column("latency ms", "latency_ms", ".0f"),
    tables.Column("encode ×", "encode_speed", ".0f"),
    tables.Column("decode ×", "decode_speed", ".0f"),
)


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "With --input: encode and decode a recording, write the reconstruction as a wav file, and "
        "print how close it is to the original. SC and mel are distances: lower is better. For the "
        "other measures of quality, higher is better. Latency is the time between a sample's "
        "arrival and its reconstruction. Encode and decode are speeds, in times real time.\n"
        "With --data-dir: measure the codecs on the held-out tracks, and say whether they suit "
        "this music.",
        "--model all --input song.mp3 --output-dir copies",
        "--model all --data-dir data/my_music",
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="name of a codec, or all")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", metavar="FILE", help="a recording in any common format")
    source.add_argument("--data-dir", metavar="DIR",
                        help=f"a data folder that `{cli.command('prepare')}` wrote")
    parser.add_argument("--output-dir", metavar="DIR",
                        help="folder for the wav files, and for pictures of original and "
                             "reconstruction (default: this folder, without pictures)")
    parser.add_argument("--start", type=cli.number(least=0), default=0.0,
                        metavar="S", help="second at which to start")
    parser.add_argument("--seconds", type=cli.number(above=0), metavar="S",
                        help="seconds to use (default: to the end)")
    arguments.add_label(parser)
    arguments.add_force(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    models = parser.add_argument_group("models")
    arguments.add_codecs(models)
    arguments.add_epoch(models, "codecs")
    models.add_argument("--books", type=cli.number(int, 1), metavar="N",
                        help="for residual codecs: use only the first N codebooks, for a lower "
                             "bitrate (default: all)")
    arguments.add_engine(models)
    rare = parser.add_argument_group("rare options, for --data-dir")
    arguments.add_held_out(rare)
    arguments.add_musicnn(rare)
    rare.add_argument("--note", action="store_true",
                      help="for the music that the codecs were trained on: save the figures in the "
                           "codecs' YAML files; verdicts on other music are then relative to these "
                           "figures")
    return parser


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    codecs = defaults.codecs(args.vqvae_weights_dir)
    names = weights.chain(codecs).codecs.values() if args.model == "all" else [args.model]
    # Find all weights before any work, so that missing weights are reported at once.
    sets = [weights.find(codecs, name, args.epoch) for name in names]
    for weight_set in sets:
        if not isinstance(weight_set.config, CodecConfig):
            raise UserError(f"{weight_set.name} is a generator; --model names a codec")
        weight_set.config.codes_in_books(args.books)
    if not args.data_dir:
        if args.note:
            raise UserError("--note needs --data-dir: one recording does not represent a corpus")
        return _judge_recording(args, sets)
    for option in ("books", "label", "force"):
        if getattr(args, option):
            raise UserError(f"--{option} goes with --input, not with --data-dir")
    figures = judge_folder(sets, args.data_dir, *arguments.held_out(args, sets[0].folder),
                           args.musicnn, args.engine, args.note)
    print(json.dumps({"data_dir": args.data_dir, "engine": args.engine} | figures, indent=2)
          if args.json else "\n".join(figures["table"]))
    return 0


def judge_folder(sets: list[weights.WeightSet], data_dir, split, seed: int = 0, musicnn=None,
                 engine_name: str = engine.ENGINES[0], note: bool = False) -> dict:
    """Measure codecs on the held-out tracks of a data folder. note: save the values in the codecs'
    YAML files. Returns {"models": a row of `judge.judge_corpus` for each, "table": the lines of a
    table, "tracks": their number, "held_out": whether they are held out}.
    """
    (train, held_out), spans = silence.read_sides(data_dir, split, seed, sets[0].trim_silence)
    # With a single track nothing is held out; codecs of other corpora were not trained on it.
    tracks = held_out or train
    embed = fad.load_if_available(musicnn, _say)
    with progress.share_bar() as show:
        rows = judge.judge_corpus(sets, data_dir, tracks, spans, engine_name=engine_name,
                                  embed=embed, record=note, progress=show)
    cells = [judge.TABLE_COLUMNS, *map(judge.row_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join([name.ljust(widths[0]), *map(str.rjust, middle, widths[1:]), last])
             for name, *middle, last in cells]
    return {"tracks": len(tracks), "held_out": bool(held_out),
            "models": [row | {"set": weight_set.tag, "level": weight_set.config.level}
                       for row, weight_set in zip(rows, sets, strict=True)],
            "table": lines + judge.leakage_warnings(sets, held_out)}


def _judge_recording(args, sets) -> int:
    """Write each codec's reconstruction of a recording, and print its measurements."""
    folder, rows, lines = make_folder(args.output_dir or "."), [], []
    console, originals = Console(stderr=True), {}
    outputs = {x.name: _outputs(args, folder, x.name) for x in sets}
    check_replaced([path for files in outputs.values() for path in files.values()], args.force)
    for weight_set in sets:
        _say(weight_set.summary)
        rate, name = weight_set.config.sample_rate, weight_set.name
        with console.status(f"{name}: encoding, decoding, comparing"):
            if rate not in originals:
                originals[rate] = audio.read_excerpt(args.input, rate, args.start, args.seconds)
            original, copies = originals[rate], []
            figures = judge.judge(engine.CodecEngine(weight_set, args.engine), [original],
                                  track_labels=[args.label], books=args.books, copies=copies)
            if np.var(original) <= metrics.SILENCE_POWER:
                _say(f"{args.input}: is silent, so no distance to it can be measured")
            files = outputs[name]
            lines += [f"{'replaced' if path.exists() else 'wrote'} {printable(path)}"
                      for path in files.values()]
            audio.write(files["wav"], copies[0][0], rate)
            if args.output_dir:
                rate_text = (f", {figures['bitrate_kbps']:.2f} kbit/s"
                             if "bitrate_kbps" in figures else "")
                plots.spectrograms(
                    {"Original": original, "Reconstruction": copies[0][0]}, files["picture"], rate,
                    f"{printable(Path(args.input).name)}: {name}{rate_text}", start=args.start)
        rows.append({"model": name, "set": weight_set.tag, **figures,
                     **{kind: str(path) for kind, path in files.items()}})
    if args.json:
        print(json.dumps({"input": args.input, "engine": args.engine, "models": rows}, indent=2))
        return 0
    table = [(column.title, *map(column.cell, rows)) for column in CODEC_COLUMNS
             if any(column.key in row for row in rows)]
    Console().print(tables.render(table, ("", *(row["model"] for row in rows)), "rich"))
    print(*lines, sep="\n")
    return 0


def _outputs(args, folder: Path, name: str) -> dict[str, Path]:
    """The files of a codec's reconstruction by kind."""
    wav = folder / f"{Path(args.input).stem}_{name}.wav"
    return {"wav": wav} | ({"picture": wav.with_suffix(".png")} if args.output_dir else {})


def _say(line):
    Console(stderr=True).print(printable(line), markup=False, highlight=False, soft_wrap=True)
