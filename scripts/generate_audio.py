#!/usr/bin/env python3
"""Make music with the trained chain: play it as it is made, or write it to a file."""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from vqwave import cli, weights
from vqwave.config import LEVELS, codec_name, generator_name
from vqwave.data import audio
from vqwave.errors import Interrupted, UserError, signal_handlers
from vqwave.files import atomic_write, printable
from vqwave.play import api, engine, mastering, playback
from vqwave.play.parallel import Windows


def main(argv=None) -> int:
    args = parse(argv)
    if args.no_gpu:
        # Before anything that looks for one is imported.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    level = None if args.generators is None else bottom(args.generators)
    paths = outputs(args.output, args.batch or 1)
    check(args)

    music = api.load(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.epoch)
    level = music.ending(level, args.keep)
    options = {"level": level, "temperature": args.temperature, "top_k": args.top_k, "top_p": args.top_p,
               "seconds": args.seconds, "samples": args.length and args.length * LEVELS[0],
               "batch": args.batch if len(paths) > 1 else None, "windows": args.windows}
    used = [x for x in LEVELS if level <= x < (args.keep or float("inf"))]
    codecs = LEVELS[: LEVELS.index(level) + 1] if args.prompt else [args.keep or level, level]
    sets = [music.found(name) for name in dict.fromkeys([*map(codec_name, codecs), *map(generator_name, used)])]
    for line in weights.described(sets):
        print(printable(line), file=sys.stderr)
    rate = music.found(codec_name(level)).config.sample_rate
    if args.loop and not args.variation_of:
        samples = options["samples"] or api.samples_in(args.seconds, rate)
        options |= {"seconds": None, "samples": samples + mastering.loop_margin(rate, samples)}
    options |= steer(args, music, level, rate)

    if args.candidates:
        return candidates(args, music, options, paths[0])
    stream = music.stream(seed=args.seed, **options)
    check_fade(args.fade, stream)
    print(f"seed {stream.seed}", flush=True)
    with stream:
        if not paths:
            return play(stream, args.device, args.fade)
        lengths, speed = write(stream, paths, args)
    for path, samples in zip(paths, lengths, strict=True):
        print(f"wrote {printable(path)}: {samples / rate:.2f} s, {samples} samples")
    print(f"{speed:.1f} x real time", file=sys.stderr)
    return 0


def parse(argv):
    parser = cli.parser(
        "Make music: every generator from the top of the chain down to the one named, then that level's decoder.\n"
        "Without --output it is played as it is made, without end unless a length is given: space pauses, q or Ctrl-C\n"
        "stops. The same seed is the same music. Exit code: 0 done or stopped while playing, 2 an error, 130 Ctrl-C\n"
        "while writing (then no file is written).",
        "scripts/generate_audio.py --seconds 30 --seed 1 --output out.wav\n"
        "  scripts/generate_audio.py --prompt song.mp3 --prompt-start 60 --seconds 30 --output continued.wav\n"
        "  scripts/generate_audio.py --variation-of song.mp3 --keep 128 --output varied.flac\n"
        "  scripts/generate_audio.py --seconds 20 --loop --normalize --output loop.wav\n"
        "  scripts/generate_audio.py --seconds 20 --candidates 8 --output best.wav",
    )
    per_level = "; one value, or one a level from the top down (default: what each generator's config says"
    parser.add_argument("--generators", metavar="NAMES",
                        help="all; or generators by name with commas between: the finest of them decides where the "
                             "chain ends, and those above it that are not named are added (default: as far down as "
                             "chain.yml in the generators' folder says, else all)")
    parser.add_argument("--vqvae-weights-dir", default=api.CODECS, metavar="DIR", help="where the codecs are")
    parser.add_argument("--generator-weights-dir", default=api.GENERATORS, metavar="DIR",
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

    steering = parser.add_argument_group("steering")
    recording = steering.add_mutually_exclusive_group()
    recording.add_argument("--prompt", metavar="FILE",
                           help="continue this recording (any format): the piece begins with a part of it, as the "
                                "codecs hear it, and goes on; a length counts that part")
    steering.add_argument("--prompt-seconds", type=cli.number(above=0), metavar="S",
                          help="length of that part, to the nearest code of the top level below (default: 5)")
    steering.add_argument("--prompt-start", type=cli.number(least=0), metavar="S",
                          help="where in the recording it begins, in seconds (default: 0)")
    steering.add_argument("--keep-original", action="store_true",
                          help="begin with the recording itself, cross-faded into what continues it")
    recording.add_argument("--variation-of", metavar="FILE",
                           help="vary this recording: its codes at one level are kept, every finer level is made anew; "
                                "as long as the recording, unless a length cuts it")
    steering.add_argument("--keep", type=cli.one_of(*LEVELS[:-1]), metavar="LEVEL",
                          help="the level that is kept, 512, 128 or 32: the smaller, the closer to the recording "
                               "(default: 512)")
    steering.add_argument("--candidates", type=cli.number(int, least=2), metavar="N",
                          help="make N pieces, of the seeds S, S+1, …, and write each, named by rank and bits per "
                               "code; the best under the name given too")
    steering.add_argument("--best-by", choices=("likelihood",),
                          help="what makes a candidate the best: the fewest bits per code under the generators, over "
                               "all levels (default: likelihood)")

    finish = parser.add_argument_group("finishing, of what is written")
    finish.add_argument("--loop", action="store_true",
                        help="a piece whose end joins its beginning; up to half a second shorter than asked for, a "
                             "variation up to a second")
    finish.add_argument("--fade", type=cli.number(above=0), metavar="S",
                        help="fade in and out over so many seconds (played, too)")
    finish.add_argument("--normalize", action="store_true",
                        help=f"as loud as streaming services play, {mastering.LOUDNESS:g} LUFS, with a limiter so that "
                             "nothing clips")
    return parser.parse_args(argv)


def check(args):
    """What cannot go together, before any work; fills in what depends on what was given."""
    written, pieces = args.output is not None, args.batch or 1
    if not written:
        for flag, value in (("--batch", pieces > 1), ("--normalize", args.normalize), ("--loop", args.loop),
                            ("--candidates", args.candidates)):
            if value:
                raise UserError(f"{flag} is for files: name one with --output")
    if args.windows > 1 and (not written or pieces > 1):
        raise UserError("--windows makes one long piece as a whole: it needs --output, and no --batch")
    if args.windows > 1 and (args.prompt or args.variation_of or args.candidates):
        raise UserError("--windows makes a piece from nothing: it goes with none of --prompt, --variation-of and "
                        "--candidates")
    if written and args.length is None and args.seconds is None and not args.variation_of:
        raise UserError("--output needs --length or --seconds: without them the music has no end")
    if written and args.device is not None:
        raise UserError("--device is where to play; with --output nothing is played")
    for flag, value, needed, there in (
        ("--prompt-seconds", args.prompt_seconds, "--prompt", args.prompt),
        ("--prompt-start", args.prompt_start, "--prompt", args.prompt),
        ("--keep-original", args.keep_original or None, "--prompt", args.prompt),
        ("--keep", args.keep, "--variation-of", args.variation_of),
        ("--best-by", args.best_by, "--candidates", args.candidates),
    ):
        if value is not None and there is None:
            raise UserError(f"{flag} needs {needed}")
    if args.loop and args.fade:
        raise UserError("a loop has no end to fade: give either --loop or --fade")
    if args.candidates and pieces > 1:
        raise UserError("--candidates are made one by one, so that each seed makes its piece again: leave out --batch")
    if args.candidates and (not any(args.temperature or [1]) or set(args.top_k or [0]) == {1}):
        raise UserError("always the likeliest code makes every candidate the same: raise --temperature, or --top-k")
    if args.variation_of and not args.keep:
        args.keep = LEVELS[0]


def check_fade(fade, stream):
    """Both fades fit the piece."""
    if fade and stream.samples is not None and 2 * fade * stream.sample_rate > stream.samples:
        raise UserError(f"{fade:g} s of fade at both ends need {2 * fade:g} s, and the piece lasts "
                        f"{stream.samples / stream.sample_rate:.2f} s")


def steer(args, music, level: int, rate: int) -> dict:
    """The options of a stream that say what it continues or varies; encodes that."""
    if args.prompt:
        start = args.prompt_start or 0.0
        prompt = music.prompt(args.prompt, seconds=args.prompt_seconds or 5.0, start=start, level=level)
        print(f"goes on from {printable(args.prompt)}: {len(prompt.audio) / rate:.2f} s from {start:g} s on",
              file=sys.stderr)
        return {"prompt": prompt, "keep_original": args.keep_original}
    if args.variation_of:
        console = Console(stderr=True)
        columns = (TextColumn("encoding"), BarColumn(), TextColumn("{task.percentage:.0f} %"), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            task = progress.add_task("", total=1.0)
            source = music.source(args.variation_of, args.keep, lambda share: progress.update(task, completed=share))
        print(f"varies {printable(args.variation_of)}: {source.samples / rate:.2f} s, of which the codes at "
              f"{args.keep}x are kept", file=sys.stderr)
        return {"variation_of": source}
    return {}


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
        raise UserError(f"{printable(path)}: cannot be written: no permission in that folder")
    if batch == 1:
        return [path]
    return [audio.check_output(path.with_name(f"{path.stem}_{i}{path.suffix}")) for i in range(1, batch + 1)]


def write(stream, paths, args, what="generating") -> tuple[list[int], float]:
    """Every piece to its file, a block at a time or, where it takes the whole, at once: (samples each, x real time)."""
    console = Console(stderr=True)
    rate = stream.sample_rate
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %"),
               TextColumn("{task.fields[speed]:.1f} x real time"), TimeRemainingColumn())
    windowed = isinstance(stream, Windows)
    whole = [[] for _ in paths] if args.loop or args.normalize else None
    start, first, speed = time.monotonic(), None, 0.0
    caught = []

    def note(number, _):
        # Raised now it could be lost in libsndfile's calls back into Python; asked for twice, it is.
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    def stop():
        if caught:
            raise Interrupted(caught[0], "stopped; nothing was written")

    def show(made):
        nonlocal first, speed
        stop()
        since, before = first or (start, 0)
        speed = len(paths) * (made - before) / rate / (time.monotonic() - since)
        # The time up to here went mostly into loading, or even exporting, the models.
        first = first or (time.monotonic(), made)
        progress.update(task, completed=made, speed=speed)

    with signal_handlers(note, signal.SIGINT, signal.SIGTERM), contextlib.ExitStack() as stack:
        files = [stack.enter_context(audio.Writer(path, rate)) for path in paths]
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            task = progress.add_task(what, total=stream.samples, speed=speed)
            if windowed:
                stream.report = lambda share: show(share * stream.samples)
            for block in fade(stream, args.fade):
                for i, piece in enumerate(block if stream.batch else [block]):
                    if whole:
                        whole[i].append(piece)
                    else:
                        files[i].write(piece)
                # Windows are all sampled before the first block.
                show(stream.samples if windowed else stream.position)
        for file, blocks in zip(files, whole or [], strict=False):
            file.write(finished(np.concatenate(blocks), rate, args))
            stop()
    return [file.samples for file in files], speed


def finished(piece: np.ndarray, rate: int, args) -> np.ndarray:
    """A whole piece, looped and normalised as asked."""
    if args.loop:
        piece = mastering.loop(piece, rate)
    if args.normalize:
        before, piece = piece, mastering.normalize(piece, rate, looped=args.loop)
        loudness = mastering.loudness(piece, rate)
        if loudness == -float("inf"):
            print("the piece is silent, and left so", file=sys.stderr)
        else:
            print(f"loudness {mastering.loudness(before, rate):.1f} -> {loudness:.1f} LUFS", file=sys.stderr)
    return piece


def fade(stream, seconds):
    """The stream's blocks, faded in and (where there is an end) out."""
    position = 0
    for block in stream:
        if seconds:
            block = mastering.faded(block, position, round(seconds * stream.sample_rate), stream.samples)
        yield block
        position += block.shape[-1]


def candidates(args, music, options, path: Path) -> int:
    """Pieces of successive seeds, each to a file named by its rank and bits per code; the best to `path` too."""
    made = []

    def end(number, _):
        raise Interrupted(number, "stopped; nothing was written")

    with (tempfile.TemporaryDirectory(prefix=".vqwave-", dir=path.parent) as folder,
          signal_handlers(end, signal.SIGINT, signal.SIGTERM)):
        # Renamed when all are there: an interrupt, or a full disk, leaves nothing.
        seed = args.seed
        for i in range(args.candidates):
            stream = music.stream(seed=seed, log_probs=True, **options)
            check_fade(args.fade, stream)
            if not i:
                print(f"seed {stream.seed}", flush=True)
            file = Path(folder, f"{i}{path.suffix}")
            with stream:
                [samples], speed = write(stream, [file], args, f"candidate {i + 1} of {args.candidates}")
            made.append((stream.bits["all"], stream.seed, stream.bits, file, samples, speed))
            seed = stream.seed + 1
        made.sort(key=lambda one: one[:2])
        wide = len(str(len(made)))
        levels = [x for x in made[0][2] if x != "all"]
        names = [path.with_name(f"{path.stem}_{rank:0{wide}}_{one[0]:.3f}bits{path.suffix}")
                 for rank, one in enumerate(made, 1)]
        with open(made[0][3], "rb") as best, atomic_write(path) as copy:
            shutil.copyfileobj(best, copy)
        for one, name in zip(made, names, strict=True):
            os.replace(one[3], name)
    row = "{:>4}  {:>10}  {:>13}  " + "{:>6}  " * len(levels) + "{}"
    print(row.format("rank", "seed", "bits per code", *(f"{x}x" for x in levels), "file"))
    for rank, ((total, seed, bits, *_), name) in enumerate(zip(made, names, strict=True), 1):
        print(row.format(rank, seed, f"{total:.3f}", *(f"{bits[x]:.3f}" for x in levels), printable(name)))
    best = made[0]
    print(f"wrote {printable(path)}: {best[4] / stream.sample_rate:.2f} s, {best[4]} samples, the piece of rank 1")
    print(f"{best[5]:.1f} x real time", file=sys.stderr)
    return 0


def play(stream, device, fade_seconds) -> int:
    """Until it ends or the listener stops it."""
    console = Console(stderr=True)

    def end(number, _):
        raise Interrupted(number, "stopped by SIGTERM")

    def show(status):
        line = playback.status_line(stream.level, status)
        sys.stderr.write(f"\r{line[: console.width - 1]}\x1b[K")
        sys.stderr.flush()

    blocks = fade(stream, fade_seconds)
    try:
        with signal_handlers(end, signal.SIGTERM):
            report = playback.play(
                blocks, stream.sample_rate, device=device, status=show if console.is_terminal else None
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
