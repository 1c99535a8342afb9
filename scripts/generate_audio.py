#!/usr/bin/env python3
"""Make music with the trained chain: play it as it is made, or write it to a file."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vqwave import audio, cli, engine, model, playback
from vqwave.config import LEVELS, codec_name, generator_name
from vqwave.errors import Interrupted, UserError
from vqwave.windows import Windows


def main(argv=None) -> int:
    args = parse(argv)
    if args.no_gpu:
        # Before anything that looks for one is imported.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    level = bottom(args.generators)
    paths = outputs(args.output, args.batch or 1)
    if paths and args.length is None and args.seconds is None:
        raise UserError("--output needs --length or --seconds: without them the music has no end")
    if not paths and (args.batch or 1) > 1:
        raise UserError("--batch is for files: name one with --output")
    if args.windows > 1 and (not paths or (args.batch or 1) > 1):
        raise UserError("--windows makes one long piece as a whole: it needs --output, and no --batch")
    if paths and args.device is not None:
        raise UserError("--device is where to play; with --output nothing is played")

    music = model.load(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.epoch)
    for name in [codec_name(level), *(generator_name(x) for x in LEVELS if x >= level)]:
        print(audio.shown(music.found(name).described), file=sys.stderr)
    stream = music.stream(
        level=level, seconds=args.seconds, samples=args.length and args.length * LEVELS[0], seed=args.seed,
        batch=args.batch if len(paths) > 1 else None, windows=args.windows,
        temperature=args.temperature, top_k=args.top_k, top_p=args.top_p,
    )
    print(f"seed {stream.seed}", flush=True)
    with stream:
        return write(stream, paths) if paths else play(stream, args.device)


def parse(argv):
    parser = cli.parser(
        "Make music: every generator from the top of the chain down to the one named, then that level's decoder.\n"
        "Without --output it is played as it is made, without end unless a length is given: space pauses, q or Ctrl-C\n"
        "stops. The same seed is the same music. Exit code: 0 done or stopped while playing, 2 an error, 130 Ctrl-C\n"
        "while writing (then no file is written).",
        "scripts/generate_audio.py --seconds 30 --seed 1 --output out.wav",
    )
    per_level = "; one value, or one a level from the top down (default: what each generator's config says"
    parser.add_argument("--generators", default="all", metavar="NAMES",
                        help="all; or generators by name with commas between: the finest of them decides where the "
                             "chain ends, and those above it that are not named are added")
    parser.add_argument("--vqvae-weights-dir", default=model.CODECS, metavar="DIR", help="where the codecs are")
    parser.add_argument("--generator-weights-dir", default=model.GENERATORS, metavar="DIR",
                        help="where the generators are")
    parser.add_argument("--epoch", metavar="N|best",
                        help="the generators' set to take (default: the one that ships, else the best)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--length", type=cli.number(int, least=1), metavar="CODES",
                        help=f"length in codes of the top level: {LEVELS[0]} samples each")
    length.add_argument("--seconds", type=cli.number(above=0), metavar="S", help="length in seconds")
    parser.add_argument("--temperature", type=cli.number(least=0), nargs="+", metavar="T",
                        help=f"below 1 safer, above 1 wilder, 0 always the likeliest code{per_level}, 1.0)")
    parser.add_argument("--top-k", type=cli.number(int, least=0), nargs="+", metavar="K",
                        help=f"draw from the K likeliest codes only; 0 from all{per_level}, 0)")
    parser.add_argument("--top-p", type=cli.number(above=0, most=1), nargs="+", metavar="P",
                        help=f"draw from the likeliest codes that together reach this probability{per_level}, 1.0)")
    parser.add_argument("--seed", type=cli.number(int, least=0, most=2**63 - 1), metavar="S",
                        help="a whole number (default: one is drawn, and printed)")
    parser.add_argument("--batch", type=cli.number(int, least=1), metavar="N",
                        help="make N pieces side by side, written as out_1.wav, out_2.wav, …")
    parser.add_argument("--windows", type=cli.number(int, least=1, most=256), default=1, metavar="N",
                        help="make one long piece faster: each level below the top is cut into N windows that are "
                             "sampled side by side and cross-faded")
    parser.add_argument("--output", metavar="FILE", help="a .wav, .flac or .ogg file to write instead of playing")
    parser.add_argument("--engine", choices=engine.ENGINES, default=engine.ENGINES[0],
                        help="what runs the models: int8 or float32 on the CPU, or Keras (the one for GPUs)")
    parser.add_argument("--device", metavar="D", help="sound device to play on, by number or name")
    parser.add_argument("--no-gpu", action="store_true", help="leave a GPU alone")
    return parser.parse_args(argv)


def bottom(text: str) -> int:
    """The level at which the chain ends. Errors: `UserError` for a name that no generator has."""
    if text == "all":
        return LEVELS[-1]
    known = {generator_name(level): level for level in LEVELS}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise UserError(f"no generator is called {name!r}; there are {', '.join(known)}, or all")
    return min(known[name] for name in names)


def outputs(output, batch: int) -> list[Path]:
    """The files to write, checked before any work; none to play."""
    if output is None:
        return []
    path = audio.check_output(output)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{audio.shown(path)}: cannot be written: no permission in that folder")
    if batch == 1:
        return [path]
    return [audio.check_output(path.with_name(f"{path.stem}_{i}{path.suffix}")) for i in range(1, batch + 1)]


@contextlib.contextmanager
def handling(handler, *numbers):
    """`handler` for these signals while the block runs."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def write(stream, paths) -> int:
    """Every piece to its file, a block at a time."""
    console = Console(stderr=True)
    rate = stream.sample_rate
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"),
               TextColumn("{task.fields[speed]:.1f} x real time"), TimeRemainingColumn())
    windowed = isinstance(stream, Windows)
    start, first, speed = time.monotonic(), None, 0.0
    caught = []

    def note(number, _):
        # Raised now it could be lost in libsndfile's calls back into Python; asked for twice, it is.
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    def show(made):
        nonlocal first, speed
        if caught:
            raise Interrupted(caught[0], "stopped; nothing was written")
        since, before = first or (start, 0)
        speed = len(paths) * (made - before) / rate / (time.monotonic() - since)
        # The time up to here went mostly into loading, or even exporting, the models.
        first = first or (time.monotonic(), made)
        progress.update(task, completed=made, speed=speed)

    with handling(note, signal.SIGINT, signal.SIGTERM), contextlib.ExitStack() as stack:
        files = [stack.enter_context(audio.Writer(path, rate)) for path in paths]
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task("generating", total=stream.samples, speed=speed)
            if windowed:
                stream.report = lambda share: show(share * stream.samples)
            for block in stream:
                for file, piece in zip(files, block if stream.batch else [block], strict=True):
                    file.write(piece)
                # Windows are all sampled before the first block.
                show(stream.samples if windowed else stream.position)
    for path in paths:
        print(f"wrote {audio.shown(path)}: {stream.samples / rate:.2f} s, {stream.samples} samples")
    print(f"{speed:.1f} x real time", file=sys.stderr)
    return 0


def play(stream, device) -> int:
    """Until it ends or the listener stops it."""
    console = Console(stderr=True)

    def end(number, _):
        raise Interrupted(number, "stopped by SIGTERM")

    def show(status):
        line = playback.status_line(stream.level, status)
        sys.stderr.write(f"\r{line[: console.width - 1]}\x1b[K")
        sys.stderr.flush()

    try:
        with handling(end, signal.SIGTERM):
            report = playback.play(
                stream, stream.sample_rate, device=device, status=show if console.is_terminal else None
            )
    finally:
        if console.is_terminal:
            sys.stderr.write("\r\x1b[K")
    print(f"played {report.seconds:.1f} s")
    if report.underruns:
        runs = "once" if report.underruns == 1 else f"{report.underruns} times"
        cheaper = [generator_name(level) for level in LEVELS if level > stream.level]
        print(f"the sound ran dry {runs}: this machine is too slow or too busy for level {stream.level}"
              + (f"; --generators {cheaper[-1]} needs less" if cheaper else ""), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
