#!/usr/bin/env python3
"""Make music with the trained chain: play it as it is made, or write it to a file."""

import os
import signal
import sys

from rich.progress import TextColumn, TimeRemainingColumn

from vqwave import cli, config, progress, weights
from vqwave.errors import Interrupted, UserError, signal_handlers
from vqwave.files import printable
from vqwave.play import api, engine, mastering, playback, render


def main(argv=None) -> int:
    args = parse(argv)
    if args.no_gpu:
        # Before anything that looks for one is imported.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    paths = render.check_outputs(args.output, args.batch or 1) if args.output is not None else []
    check(args)
    finish = render.Finish(args.fade, args.loop, args.normalize)

    music = api.load(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.epoch)
    chain = music.chain
    if args.variation_of and args.keep is None:
        args.keep = chain.top
    level = music.ending(bottom(args.generators, chain), args.keep)
    rate = music.sample_rate
    samples = args.length * chain.top if args.length else None
    if args.seconds:
        samples = api.samples_in(args.seconds, rate)
    if args.loop and samples is not None and not args.variation_of:
        samples += mastering.loop_margin(rate, samples)
    sampled = [x for x in chain.sizes if level <= x < (args.keep or float("inf"))]
    options = {"level": level, "samples": samples, "batch": args.batch if len(paths) > 1 else None,
               "windows": args.windows, "sampling": sampling(args, sampled)}
    codecs = [x for x in chain.sizes if x >= level] if args.prompt else [args.keep or level, level]
    names = [*(chain.codecs[x] for x in codecs), *(chain.generators[x] for x in sampled)]
    for line in weights.describe([music.weight_set(name) for name in dict.fromkeys(names)]):
        print(printable(line), file=sys.stderr)
    options["begin"] = begin(args, music, level)

    if args.candidates:
        return candidates(args, music, options, paths[0], finish)
    stream = music.stream(seed=args.seed, **options)
    finish.check(stream)
    print(f"seed {stream.seed}", flush=True)
    with stream:
        if not paths:
            return play(stream, args.device, finish, chain)
        lengths, speed = write(stream, paths, finish)
    for path, count in zip(paths, lengths, strict=True):
        print(f"wrote {printable(path)}: {count / rate:.2f} s, {count} samples")
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
    parser.add_argument("--vqvae-weights-dir", default=weights.CODECS, metavar="DIR", help="where the codecs are")
    parser.add_argument("--generator-weights-dir", default=weights.GENERATORS, metavar="DIR",
                        help="where the generators are")
    parser.add_argument("--epoch", metavar="N|best",
                        help="the generators' set to take (default: the one that ships, else the best)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--length", type=cli.number(int, least=1), metavar="CODES",
                        help="length in codes of the top level (512 samples each in what ships)")
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
    steering.add_argument("--keep", type=cli.number(int, least=1), metavar="LEVEL",
                          help="the level that is kept, 512, 128 or 32 in what ships: the smaller, the closer to the "
                               "recording (default: the top level)")
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


def sampling(args, levels) -> dict | None:
    """What each sampled level draws with, from one value or one a level of each option."""
    chosen: dict[int, dict] = {}
    for key in ("temperature", "top_k", "top_p"):
        values = getattr(args, key)
        if values is None:
            continue
        if len(values) not in (1, len(levels)):
            raise UserError(f"{key} has {len(values)} values; give one, or one for each of levels "
                            f"{', '.join(map(str, levels))}")
        for level, value in zip(levels, values * (len(levels) if len(values) == 1 else 1), strict=True):
            chosen.setdefault(level, {})[key] = value
    return chosen or None


def begin(args, music, level: int):
    """What the piece continues or varies, encoded; None where it begins from nothing."""
    rate = music.sample_rate
    if args.prompt:
        start = args.prompt_start or 0.0
        prompt = music.prompt(args.prompt, seconds=args.prompt_seconds or 5.0, start=start, level=level,
                              keep_original=args.keep_original)
        print(f"goes on from {printable(args.prompt)}: {len(prompt.audio) / rate:.2f} s from {start:g} s on",
              file=sys.stderr)
        return prompt
    if args.variation_of:
        with progress.bar() as bar:
            task = bar.add_task("encoding", total=1.0)
            source = music.source(args.variation_of, args.keep, lambda share: bar.update(task, completed=share))
        print(f"varies {printable(args.variation_of)}: {source.samples / rate:.2f} s, of which the codes at "
              f"{args.keep}x are kept", file=sys.stderr)
        return source
    return None


def bottom(text: str | None, chain: config.ChainConfig) -> int | None:
    """The level that --generators says the chain ends at. Raises `UserError` for a name that no
    generator has.
    """
    if text is None:
        return None
    if text == "all":
        return chain.bottom
    known = {name: level for level, name in chain.generators.items()}
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise UserError(f"no generator is called {name!r}; there are {', '.join(known)}, or all")
    return min(known[name] for name in names)


def write(stream, paths, finish, what="generating") -> tuple[list[int], float]:
    """Every piece to its file, with a bar: (samples each, x real time)."""
    columns = (TextColumn("{task.percentage:.0f} %"), TextColumn("{task.fields[speed]:.1f} x real time"),
               TimeRemainingColumn())
    with progress.bar(*columns, transient=False) as bar:
        task = bar.add_task(what, total=stream.samples, speed=0.0)
        return render.write_pieces(stream, paths, finish,
                                   lambda made, speed: bar.update(task, completed=made, speed=speed),
                                   lambda line: print(line, file=sys.stderr))


def candidates(args, music, options, path, finish) -> int:
    """Pieces of successive seeds, each to a file named by its rank and bits per code; the best to
    `path` too.
    """
    count = iter(range(1, args.candidates + 1))

    def streams():
        seed = args.seed
        for i in range(args.candidates):
            stream = music.stream(seed=seed, log_probs=True, **options)
            if not i:
                print(f"seed {stream.seed}", flush=True)
            yield stream
            seed = stream.seed + 1

    def write_one(stream, paths, finish):
        return write(stream, paths, finish, f"candidate {next(count)} of {args.candidates}")

    made = render.write_candidates(streams(), path, finish, write_one)
    levels = [x for x in made[0].bits if x != "all"]
    row = "{:>4}  {:>10}  {:>13}  " + "{:>6}  " * len(levels) + "{}"
    print(row.format("rank", "seed", "bits per code", *(f"{x}x" for x in levels), "file"))
    for rank, one in enumerate(made, 1):
        print(row.format(rank, one.seed, f"{one.bits['all']:.3f}", *(f"{one.bits[x]:.3f}" for x in levels),
                         printable(one.path)))
    best = made[0]
    print(f"wrote {printable(path)}: {best.samples / music.sample_rate:.2f} s, {best.samples} samples, the piece of "
          "rank 1")
    print(f"{best.speed:.1f} x real time", file=sys.stderr)
    return 0


def play(stream, device, finish, chain) -> int:
    """Until it ends or the listener stops it."""
    console = progress.console()

    def end(number, _):
        raise Interrupted(number, "stopped by SIGTERM")

    def show(status):
        line = playback.status_line(stream.level, status)
        sys.stderr.write(f"\r{line[: console.width - 1]}\x1b[K")
        sys.stderr.flush()

    blocks = finish.fade_blocks(stream)
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
        cheaper = [name for level, name in chain.generators.items() if level > stream.level]
        print(f"the sound ran dry {runs}: this machine is too slow or too busy for level {stream.level}"
              + (f"; --generators {cheaper[-1]} needs less" if cheaper else ""), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
