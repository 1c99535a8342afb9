"""Generate music with the trained chain and write it to a file."""

import argparse
import sys
from pathlib import Path

from rich.progress import TextColumn, TimeRemainingColumn

from .. import cli, progress
from ..errors import UserError
from ..io import audio
from ..io.files import printable
from ..play import mastering, midi, render
from ..play.sampling import draw_seed
from . import pieces

PRIOR_OPTIONS = {"preset", "vqvae_weights_dir", "generator_weights_dir", "epoch", "seconds",
                 "temperature", "label", "seed", "midi", "output", "force", "engine", "no_gpu",
                 "fade", "loop", "normalize"}
"""The options of a VAE's prior; the others need codes."""


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Generate music into a file. The generators draw codes, from the top of the chain down; "
        "the codec of the last level decodes them. A VAE is sampled from its prior.\n"
        f"Without --output the music is played: see `{cli.command('play')} --help`.\n"
        "Exit codes: 0 finished; 2 an error; 130 Ctrl-C, which leaves no file.",
        "--seconds 30 --seed 1 --output out.wav",
        "--prompt song.mp3 --prompt-start 60 --seconds 30 --output continued.wav",
        "--variation-of song.mp3 --keep 128 --normalize --output varied.flac",
        "--seconds 20 --loop --output loop.wav",
        "--seconds 15 --candidates 4 --output best.wav",
        "--preset cvae --label jazz --seconds 30 --output jazz.wav",
    )
    parser.add_argument("--output", metavar="FILE", help="the .wav, .flac or .ogg file to write")
    pieces.add_main(parser)
    several = parser.add_mutually_exclusive_group()
    several.add_argument("--batch", type=cli.number(int, least=1), metavar="N",
                         help="generate N pieces at once: out_1.wav, out_2.wav, …")
    several.add_argument("--candidates", type=cli.number(int, least=2), metavar="N",
                         help="generate N pieces, of seeds S, S+1, …, and name each by its rank "
                              "and its bits per code; the likeliest is also the --output file")
    pieces.add_recording(parser)
    finish = parser.add_argument_group("finish")
    ends = finish.add_mutually_exclusive_group()
    pieces.add_fade(ends)
    ends.add_argument("--loop", action="store_true",
                      help="join the end to the beginning; the loop is up to half a second shorter "
                           "than asked for (a variation: a second)")
    finish.add_argument("--normalize", action="store_true",
                        help=f"normalise to {mastering.LOUDNESS:g} LUFS, with a limiter against "
                             f"clipping")
    pieces.add_models(parser)
    rare = parser.add_argument_group("rare options")
    rare.add_argument("--midi", action="store_true",
                      help="also write the notes of the music, to a .mid file of the same name")
    pieces.add_rare(rare)
    return parser


def main(argv=None) -> int:
    words = sys.argv[1:] if argv is None else argv
    flags = {word.split("=")[0] for word in words}
    if not flags & {"--output", "--help", "-h"}:
        from . import play

        return play.main(words)
    from .play import parser as play_parser

    args = pieces.parse(parser(), words, play_parser, "is for playing; --output plays nothing")
    paths = render.check_outputs(args.output, args.batch or 1)
    check(args, paths)
    finish = render.Finish(args.fade, args.loop, args.normalize)
    music = pieces.load(args)
    if music.vae is not None:
        return write_prior(args, music, paths, finish)
    options = pieces.stream_options(args, music)
    if args.candidates:
        return write_candidates(args, music, options, paths[0], finish)
    if len(paths) > 1:
        options["batch"] = len(paths)
        pieces.check_batch(len(paths), options["samples"] or options["begin"].samples, finish.whole)
    stream, changes = pieces.open_stream(args, music, options)
    finish.check(stream)
    print(f"seed {stream.seed}", flush=True)
    with stream:
        return write_files(args, stream, paths, finish, changes)


def check(args, paths):
    """Raises `UserError` where options contradict each other or a file would be lost."""
    if args.length is None and args.seconds is None and not args.variation_of:
        raise UserError("--output needs --length or --seconds: without them the music has no end")
    if args.guidance is not None and args.label is None and args.replay is None:
        raise UserError("--guidance needs --label or --replay")
    if args.candidates:
        for option in ("replay", "midi"):
            if getattr(args, option):
                raise UserError(f"--{option} does not go with --candidates")
        if not any(args.temperature or [1]) or set(args.top_k or [0]) == {1}:
            raise UserError("drawing only the likeliest code makes all candidates equal: raise "
                            "--temperature, or --top-k")
    if args.midi:
        midi.check()
    pieces.check(args, [*paths, *([p.with_suffix(".mid") for p in paths] if args.midi else [])])


def write_prior(args, music, paths, finish) -> int:
    """Write a sample of a VAE's prior."""
    codec = music.weight_set(music.vae).config
    for option, value in vars(args).items():
        if option not in PRIOR_OPTIONS and value != parser().get_default(option):
            codec.check_codes(pieces.flag(option))
    [temperature, *more] = args.temperature or [1.0]
    if more:
        raise UserError(f"--temperature has {1 + len(more)} values; {codec.name} has no levels of "
                        f"codes and takes one")
    pieces.describe(music, [music.vae])
    piece = music.sample_prior(pieces.piece_length(args, music), seed=args.seed,
                               temperature=temperature, label=args.label)
    finish.check(piece)
    print(f"seed {piece.seed}", flush=True)
    return write_files(args, piece, paths, finish)


def write_files(args, stream, paths, finish, changes=()) -> int:
    """Write every piece and print the files; returns the exit code."""
    rate = stream.sample_rate
    lengths, speed = write(stream, paths, finish, changes=changes)
    for path, count in zip(paths, lengths, strict=True):
        print(f"wrote {printable(path)}: {count / rate:.2f} s, {count} samples")
        if args.midi:
            notes = midi.write(path.with_suffix(".mid"), audio.Decoder(path, rate), rate)
            print(f"wrote {printable(path.with_suffix('.mid'))}: {notes} notes")
    print(f"{speed:.1f} x real time", file=sys.stderr)
    return 0


def write(stream, paths, finish, task="generating", changes=()) -> tuple[list[int], float]:
    """Write every piece, with a bar. Returns the samples of each and the real-time factor."""
    columns = (TextColumn("{task.percentage:.0f} %"),
               TextColumn("{task.fields[speed]:.1f} x real time"),
               TimeRemainingColumn())
    with progress.bar(*columns, transient=False) as bar:
        task = bar.add_task(task, total=stream.samples, speed=0.0)

        def show(samples, speed):
            bar.update(task, completed=samples, speed=speed)

        return render.write_pieces(stream, paths, finish, show,
                                   lambda line: print(line, file=sys.stderr), changes)


def write_candidates(args, music, options, path: Path, finish) -> int:
    """Write pieces of successive seeds, and print a table of them by rank."""
    first = draw_seed(args.seed)
    print(f"seed {first}", flush=True)
    seeds = range(first, first + args.candidates)

    def write_one(stream, paths, finish):
        return write(stream, paths, finish,
                     f"candidate {seeds.index(stream.seed) + 1} of {args.candidates}")

    ranked = render.write_candidates(
        (music.stream(seed=seed, log_probs=True, **options) for seed in seeds), path, finish,
        write_one)
    levels = [level for level in ranked[0].bits if level != "all"]
    row = "{:>4}  {:>10}  {:>13}  " + "{:>6}  " * len(levels) + "{}"
    print(row.format("rank", "seed", "bits per code", *(f"{x}x" for x in levels), "file"))
    for rank, candidate in enumerate(ranked, 1):
        print(row.format(rank, candidate.seed,
                         *(f"{candidate.bits[x]:.3f}" for x in ("all", *levels)),
                         printable(candidate.path)))
    best = ranked[0]
    print(f"wrote {printable(path)}: {best.samples / music.sample_rate:.2f} s, {best.samples} "
          f"samples, the piece of rank 1")
    print(f"{best.speed:.1f} x real time", file=sys.stderr)
    return 0
