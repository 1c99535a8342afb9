"""Make music with the trained chain: play it as it is made, or write it to a file."""

import argparse
import contextlib
import os
import signal
import sys
from pathlib import Path

from rich.progress import TextColumn, TimeRemainingColumn

from .. import cli, config, progress
from ..errors import Interrupted, UserError, signal_handlers
from ..io import audio, files, weights
from ..io.files import printable
from ..play import api, controls, engine, keys, mastering, midi, playback, render
from . import arguments

LONGEST = 24 * 3600
"""Seconds: the longest piece that a length can ask for."""

PAST = 16.0
"""Seconds of what plays that can be held or frozen."""
PROMPT_SECONDS, PROMPT_START = keys.PROMPT_SECONDS, 0.0
BEST_BY = ("likelihood",)
TOP, *_ = KEEPABLE = config.preset().chain.sizes[:-1]
KEPT = ", ".join(map(str, KEEPABLE[:-1])) + f" or {KEEPABLE[-1]}"
"""The levels of the chain that ships that can be kept, as text."""


def main(argv=None) -> int:
    return make(parser().parse_args(argv))


def make(args) -> int:
    """Make what the arguments, as `parser` reads them, ask for; returns the exit code."""
    if args.no_gpu:
        # Before anything that looks for one is imported.
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    paths = render.check_outputs(args.output, args.batch or 1) if args.output is not None else []
    check(args)
    if args.record is not None:
        files.check_place(args.record)
    check_free(paths, args)
    finish = render.Finish(args.fade, args.loop, args.normalize)
    score = controls.read_score(args.score) if args.score is not None else None

    music = api.load(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.epoch,
                     preset=args.preset)
    if music.vae is not None:
        return make_of_prior(args, music, paths, finish)
    chain = music.chain
    if args.variation_of and args.keep is None:
        args.keep = chain.top
    level = music.ending(bottom(args.generators, chain), args.keep)
    sampled = [x for x in chain.sizes if level <= x < (args.keep or float("inf"))]
    options = {"level": level, "samples": piece_length(args, music),
               "batch": args.batch if len(paths) > 1 else None,
               "sampling": sampling(args, sampled),
               "chosen": arguments.chosen(args), "latency": args.latency}
    codecs = [x for x in chain.sizes if x >= level] if args.prompt else [args.keep or level, level]
    for x in codecs:
        music.weight_set(chain.codecs[x]).config.check_codes()
    names = [*(chain.codecs[x] for x in codecs), *(chain.generator(x) for x in sampled)]
    describe(music, dict.fromkeys(names))
    options["begin"] = begin(args, music, level)

    if args.candidates:
        return candidates(args, music, options, paths[0], finish)
    if not paths or score is not None:
        options["past"] = controls.MOST_PAST if score is not None else PAST
    seed, changes = args.seed, ()
    if score is not None:
        seed, changes = score.seed if args.seed is None else args.seed, score.changes
    stream = music.stream(seed=seed, **options)
    if score is not None:
        score.check(stream)
    finish.check(stream)
    print(f"seed {stream.seed}", flush=True)
    with stream:
        if not paths:
            return play(stream, args, finish, chain, changes)
        return finish_files(args, stream, paths, finish, changes)


def make_of_prior(args, music, paths, finish) -> int:
    """As `make`, of a VAE: no generator invents what it plays, its prior does."""
    check_without_codes(args, music.weight_set(music.vae).config)
    describe(music, [music.vae])
    [temperature] = args.temperature or [1.0]
    piece = music.sample_prior(piece_length(args, music), seed=args.seed, temperature=temperature,
                               label=args.label)
    finish.check(piece)
    print(f"seed {piece.seed}", flush=True)
    return finish_files(args, piece, paths, finish)


def describe(music, names):
    """Say which weights are taken."""
    for line in weights.describe([music.weight_set(name) for name in names]):
        print(printable(line), file=sys.stderr)


def piece_length(args, music) -> int | None:
    """Samples to make, with what a loop needs besides; None where nothing says how many."""
    rate = music.sample_rate
    samples = args.length * music.chain.top if args.length else None
    if args.seconds:
        samples = api.samples_in(args.seconds, rate)
    if samples is not None and samples > LONGEST * rate:
        raise UserError(f"--length {args.length} is {samples / rate / 3600:.1f} hours; a piece "
                        f"lasts at most {LONGEST // 3600}")
    if args.loop and samples is not None and not args.variation_of:
        samples += mastering.loop_margin(rate, samples)
    return samples


def finish_files(args, stream, paths, finish, changes=()) -> int:
    """Write every piece, and say what was written; returns the exit code."""
    rate = stream.sample_rate
    lengths, speed = write(stream, paths, finish, changes=changes)
    for path, count in zip(paths, lengths, strict=True):
        print(f"wrote {printable(path)}: {count / rate:.2f} s, {count} samples")
        if args.midi:
            found = midi.write(path.with_suffix(".mid"), audio.Decoder(path, rate), rate)
            print(f"wrote {printable(path.with_suffix('.mid'))}: {found} notes")
    print(f"{speed:.1f} x real time", file=sys.stderr)
    return 0


def parser(written: bool = True) -> argparse.ArgumentParser:
    """What the command can be told. written: with what is for files, which `vqwave play` does
    without.
    """
    playing = ("plays while the music is made, without end unless you give a length: space pauses, "
               "q or Ctrl-C fades out and stops, ? shows the keys that change what plays. The same "
               "seed gives the same music.")
    if written:
        parser = cli.parser(
            "Make music. The generators invent codes, from the top of the chain down; the last "
            f"level's codec turns them into sound. With --output it goes into a file. Without, "
            f"this {playing}\nA VAE has no codes to invent: its prior is sampled, into a file.\n"
            f"Exit codes: 0 finished, or stopped while playing; 2 an error; 130 "
            f"Ctrl-C while writing (no file is left).",
            "--seconds 30 --seed 1 --output out.wav",
            "--prompt song.mp3 --prompt-start 60 --seconds 30 --output continued.wav",
            "--variation-of song.mp3 --keep 128 --output varied.flac",
            "--seconds 20 --loop --normalize --output loop.wav",
            "--generator-weights-dir weights/both --label wesnoth --guidance 2 --seconds 30 "
            "--output wesnoth.wav",
            "--preset prior_transformer --seconds 30 --output out.wav",
            "--preset cvae --generator-weights-dir weights/blues --seconds 30 --output blues.wav",
            "--seconds 20 --candidates 8 --output best.wav",
        )
    else:
        parser = cli.parser(
            f"Play music to the speakers. It {playing} `vqwave generate` writes files.\n"
            "Exit codes: 0 finished or stopped; 2 an error.",
            "",
            "--seed 1 --temperature 0.95",
            "--prompt song.mp3 --prompt-start 60",
            "--variation-of song.mp3 --keep 128",
            "--generator-weights-dir weights/both --label wesnoth:0.7,singularity:0.3",
            "--preset prior_transformer",
        )
    parser.add_argument("--generators", metavar="NAMES",
                        help="all, or names with commas between; the finest of them decides where "
                             "the chain ends, and those above it are always used (default: what "
                             "chain.yml beside the generators says, else all)")
    arguments.add_weights(parser, preset=True)
    arguments.add_epoch(parser, "generators")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--length", type=cli.number(int, least=1), metavar="CODES",
                        help=f"length in codes of the top level ({TOP} samples each in the chain "
                             f"that ships)")
    length.add_argument("--seconds", type=cli.number(above=0, most=LONGEST),
                        metavar="S", help="length in seconds")
    for flag, metavar, what in (("--temperature", "T", "below 1 safer, above 1 wilder, 0 always "
                                                       "the likeliest code; of a VAE the "
                                                       "standard deviation of what is drawn"),
                                ("--top-k", "K", "draw from the K likeliest codes only; 0 from "
                                                 "all"),
                                ("--top-p", "P", "draw from the likeliest codes that together "
                                                 "reach this probability"),
                                ("--guidance", "G", "how strongly --label is followed, up to "
                                                    f"{config.MOST_GUIDANCE:g}; 1 as it was "
                                                    f"learnt, which is fastest")):
        field = flag.strip("-").replace("-", "_")
        parser.add_argument(flag, type=cli.field(config.Sampling, field),
                            nargs="+", metavar=metavar,
                            help=f"{what}; one value, or one for each level from the top down "
                                 f"(default: what each generator's config says, "
                                 f"{getattr(config.Sampling(), field)} unless it does)")
    arguments.add_label(parser)
    parser.add_argument("--choose", type=choice, nargs="+", metavar="NAME=NUMBER",
                        help="for generators that were trained with conditions of other kinds: the "
                             "value of each, a whole number from 0")
    parser.add_argument("--seed", type=cli.number(int, least=0, most=2**63 - 1), metavar="S",
                        help="a whole number (default: one is drawn, and printed)")
    parser.add_argument("--score", metavar="FILE",
                        help="a performance as the studio saves it: its seed, and what was changed "
                             "while it played, at which sample; --seed plays the same changes on "
                             "another piece")
    if written:
        parser.add_argument("--batch", type=cli.number(int, least=1), metavar="N",
                            help="make N pieces at once: out_1.wav, out_2.wav, …")
        parser.add_argument("--output", metavar="FILE",
                            help="write this .wav, .flac or .ogg file instead of playing")
        parser.add_argument("--midi", action="store_true",
                            help="write the notes that are heard too, under the same name with "
                                 ".mid")
    parser.add_argument("--force", action="store_true", help="replace files that exist already")
    parser.add_argument("--engine", choices=engine.ENGINES, default=engine.ENGINES[0],
                        help="what runs the models: int8 or float32 on the CPU, or Keras (the one "
                             "for GPUs)")
    parser.add_argument("--device", metavar="D", help="the sound device to play on, by number or "
                                                      "name")
    parser.add_argument("--latency", choices=playback.LATENCIES, default="normal",
                        help="low: what the keys change is heard sooner, at more computing; the "
                             "decoder sees less of what comes, and less is in hand when the "
                             "machine is busy; it may be another piece of the same seed")
    parser.add_argument("--record", metavar="FILE",
                        help="write what the keys changed while it played as a score, which "
                             "--score plays again, at the same --latency")
    parser.add_argument("--recordings", nargs="+", metavar="FILE",
                        help="the key r passes from their first seconds on, one after the other")
    parser.add_argument("--other-weights", nargs="+", metavar="DIR",
                        help="the key w passes into what the generators in these folders play, one "
                             "after the other, with the codecs in them where they have some")
    parser.add_argument("--midi-in", metavar="PORT",
                        help="listen to this MIDI port, by a part of its name: held notes draw the "
                             "music to them, its modulation wheel turns the temperature")
    parser.add_argument("--midi-out", metavar="PORT",
                        help="tell this MIDI port the notes that are heard")
    parser.add_argument("--no-gpu", action="store_true", help="leave a GPU alone")

    steering = parser.add_argument_group("begin with a recording")
    recording = steering.add_mutually_exclusive_group()
    recording.add_argument("--prompt", metavar="FILE",
                           help="continue this recording, in any format: the piece begins with a "
                                "part of it as the codecs hear it, and goes on; a length includes "
                                "that part")
    steering.add_argument("--prompt-seconds", type=cli.number(above=0), metavar="S",
                          help=f"how long that part is, cut to whole codes of the top level "
                               f"(default: {PROMPT_SECONDS:g})")
    steering.add_argument("--prompt-start", type=cli.number(least=0), metavar="S",
                          help=f"where in the recording it starts, in seconds (default: "
                               f"{PROMPT_START:g})")
    steering.add_argument("--keep-original", action="store_true",
                          help="begin with the recording itself, cross-faded into what follows")
    steering.add_argument("--stay", metavar="S",
                          type=cli.number(least=0, most=controls.HIGHEST_STAY),
                          help=f"how strongly what follows keeps to the recording's pitches, half "
                               f"as strongly every minute; 0 lets it go where it will (default: "
                               f"{controls.STAY:g})")
    recording.add_argument("--variation-of", metavar="FILE",
                           help="vary this recording: its codes at one level are kept and every "
                                "finer level is generated; as long as the recording, unless a "
                                "length cuts it")
    steering.add_argument("--keep", type=cli.number(int, least=1), metavar="LEVEL",
                          help=f"the level that is kept, {KEPT} in the chain that ships: the "
                               f"smaller, the closer to the recording (default: the top level)")
    if written:
        steering = parser.add_argument_group("choose")
        steering.add_argument("--candidates", type=cli.number(int, least=2), metavar="N",
                              help="make N pieces, of the seeds S, S+1, …; each is written under a "
                                   "name with its rank and bits per code, the best also under the "
                                   "name that --output gives")
        steering.add_argument("--best-by", choices=BEST_BY,
                              help="what makes a candidate the best: the fewest bits per code "
                                   f"under the generators, over all levels (default: {BEST_BY[0]})")

    finish = parser.add_argument_group("finish")
    finish.add_argument("--fade", type=cli.number(above=0), metavar="S",
                        help="fade in and out over so many seconds")
    if written:
        finish.add_argument("--loop", action="store_true",
                            help="make a piece whose end joins its beginning; up to half a second "
                                 "shorter than you ask for, a variation up to a second")
        finish.add_argument("--normalize", action="store_true",
                            help=f"make it as loud as streaming services play, "
                                 f"{mastering.LOUDNESS:g} LUFS, with a limiter so that nothing "
                                 f"clips")
    else:
        parser.set_defaults(batch=None, output=None, midi=False, candidates=None,
                            best_by=None, loop=False, normalize=False)
    return parser


def choice(text: str) -> tuple[str, int]:
    """An argparse type: the name of a condition and the value that is chosen for it."""
    name, _, value = text.partition("=")
    if not name or not value.isascii() or not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a condition's name and a whole number, "
                                         f"such as mood=1")
    return name, int(value)


def check(args):
    """What cannot go together, before any work; fills in what depends on what was given."""
    written, pieces = args.output is not None, args.batch or 1
    if not written:
        for flag, value in (("--batch", pieces > 1), ("--normalize", args.normalize),
                            ("--loop", args.loop),
                            ("--candidates", args.candidates)):
            if value:
                raise UserError(f"{flag} is for files: name one with --output")
    if args.score is not None and args.candidates:
        raise UserError("--score changes a piece while it is made: it does not go with "
                        "--candidates")
    if written and args.length is None and args.seconds is None and not args.variation_of:
        raise UserError("--output needs --length or --seconds: without them the music has no end")
    if written and args.device is not None:
        raise UserError("--device is where to play; with --output nothing is played")
    for flag, value in (("--record", args.record), ("--recordings", args.recordings),
                        ("--other-weights", args.other_weights), ("--midi-in", args.midi_in),
                        ("--midi-out", args.midi_out)):
        if written and value is not None:
            raise UserError(f"{flag} is for what is played; with --output nothing is played")
    for one in args.recordings or ():
        if not Path(one).is_file():
            raise UserError(f"{printable(one)}: no such file")
    for one in args.other_weights or ():
        weights.chain(weights.find_folder(one, weights.GENERATORS))
    if args.midi:
        if not written or args.candidates:
            raise UserError("--midi needs --output, and goes without --candidates")
        midi.check()
    for flag, value, needed, there in (
        ("--prompt-seconds", args.prompt_seconds, "--prompt", args.prompt),
        ("--prompt-start", args.prompt_start, "--prompt", args.prompt),
        ("--keep-original", args.keep_original or None, "--prompt", args.prompt),
        ("--stay", args.stay, "--prompt", args.prompt),
        ("--keep", args.keep, "--variation-of", args.variation_of),
        # What plays can pass to a label later.
        ("--guidance", args.guidance, "--label or --score",
         args.label if args.label is not None or (written and not args.score) else ""),
        ("--best-by", args.best_by, "--candidates", args.candidates),
    ):
        if value is not None and there is None:
            raise UserError(f"{flag} needs {needed}")
    if args.force and not written and args.record is None:
        raise UserError("--force needs --output or --record")
    if args.loop and args.fade:
        raise UserError("a loop has no end to fade: give either --loop or --fade")
    if args.candidates and pieces > 1:
        raise UserError("--candidates are made one by one, so that each seed makes its piece "
                        "again: leave out --batch")
    if args.candidates and (not any(args.temperature or [1]) or set(args.top_k or [0]) == {1}):
        raise UserError("always the likeliest code makes every candidate the same: raise "
                        "--temperature, or --top-k")


OF_PRIOR = ("preset", "vqvae_weights_dir", "generator_weights_dir", "epoch", "seconds",
            "temperature", "label", "seed", "midi", "output", "force", "engine", "no_gpu", "fade",
            "loop", "normalize")
"""What is known of the options that a VAE's prior is sampled with; the others are of codes."""


def check_without_codes(args, codec: config.CodecConfig):
    """Nothing is asked for that needs codes, where a codec makes none."""
    usual = vars(parser().parse_args([]))
    for name, value in vars(args).items():
        if name not in OF_PRIOR and value != usual[name]:
            codec.check_codes(f"--{name.replace('_', '-')}")
    if args.output is None:
        codec.check_codes(f"playing, without `{cli.command('generate')} --output FILE`,")
    if len(args.temperature or [1]) > 1:
        raise UserError(f"temperature has {len(args.temperature)} values; {codec.name}, which has "
                        f"no levels of codes, is sampled with one")


def check_free(paths, args):
    """No file is lost: one that is there is replaced only with --force, the recording never."""
    more = [path.with_suffix(".mid") for path in paths] if args.midi else []
    more += [Path(args.record)] if args.record is not None else []
    for path in [*paths, *more]:
        for recording in (args.prompt, args.variation_of):
            if (recording is not None and path.exists() and os.path.exists(recording)
                and path.samefile(recording)):
                raise UserError(f"{printable(path)}: is the recording itself; name another file")
        if path.exists() and not args.force:
            raise UserError(f"{printable(path)}: is there already; name another file, or replace "
                            f"it with --force")


def sampling(args, levels) -> dict | None:
    """What each sampled level draws with, from one value or one a level of each option."""
    chosen: dict[int, dict] = {}
    for key in ("temperature", "top_k", "top_p", "guidance"):
        values = getattr(args, key)
        if values is None:
            continue
        if len(values) not in (1, len(levels)):
            raise UserError(f"{key} has {len(values)} values; give one, or one for each of levels "
                            f"{', '.join(map(str, levels))}")
        for level, value in zip(levels, values * (len(levels) if len(values) == 1 else 1),
                                strict=True):
            chosen.setdefault(level, {})[key] = value
    return chosen or None


def begin(args, music, level: int):
    """What the piece continues or varies, encoded; None where it begins from nothing."""
    rate = music.sample_rate
    if args.prompt:
        start = args.prompt_start or PROMPT_START
        prompt = music.prompt(args.prompt, seconds=args.prompt_seconds or PROMPT_SECONDS,
                              start=start, level=level,
                              keep_original=args.keep_original, stay=args.stay)
        print(f"goes on from {printable(args.prompt)}: {len(prompt.audio) / rate:.2f} s from "
              f"{start:g} s on",
              file=sys.stderr)
        return prompt
    if args.variation_of:
        with progress.bar() as bar:
            task = bar.add_task("encoding", total=1.0)
            source = music.source(args.variation_of, args.keep,
                                  lambda share: bar.update(task, completed=share))
        print(f"varies {printable(args.variation_of)}: {source.samples / rate:.2f} s, of which the "
              f"codes at {args.keep}x are kept", file=sys.stderr)
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
            raise UserError(f"no generator is called {name!r}; there are {', '.join(known)}, or "
                            f"all")
    return min(known[name] for name in names)


def write(stream, paths, finish, what="generating", changes=()) -> tuple[list[int], float]:
    """Every piece to its file, with a bar: (samples each, x real time)."""
    columns = (TextColumn("{task.percentage:.0f} %"),
               TextColumn("{task.fields[speed]:.1f} x real time"),
               TimeRemainingColumn())
    with progress.bar(*columns, transient=False) as bar:
        task = bar.add_task(what, total=stream.samples, speed=0.0)
        return render.write_pieces(stream, paths, finish,
                                   lambda made, speed:
                                   bar.update(task, completed=made, speed=speed),
                                   lambda line: print(line, file=sys.stderr), changes)


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
        print(row.format(rank, one.seed, f"{one.bits['all']:.3f}",
                         *(f"{one.bits[x]:.3f}" for x in levels),
                         printable(one.path)))
    best = made[0]
    print(f"wrote {printable(path)}: {best.samples / music.sample_rate:.2f} s, {best.samples} "
          f"samples, the piece of rank 1")
    print(f"{best.speed:.1f} x real time", file=sys.stderr)
    return 0


def play(stream, args, finish, chain, changes=()) -> int:
    """Until it ends or the listener stops it; keys change what plays."""
    console = progress.console()
    pressed = keys.Keys(stream, args.recordings or (), args.other_weights or ())
    latency = playback.LATENCIES[args.latency]
    first, stream.performed = stream.seed, []

    def end(number, _):
        raise Interrupted(number, "stopped by SIGTERM")

    def record():
        if not stream.position:
            return  # nothing was performed
        # As it came: in a block a key may be pressed before the score's change, or after. What the
        # score had yet to change follows.
        made = len(stream.performed) - len(pressed.score)
        left = sorted(changes, key=lambda change: change[0])[made:]
        controls.write_score(args.record, controls.Score(first, (*stream.performed, *left)))
        print(f"wrote {printable(args.record)}", file=sys.stderr)

    said = []

    def show(status):
        if teller:
            teller.tell(status.seconds * stream.sample_rate, status.paused)
        if not console.is_terminal:
            return
        line = playback.status_line(stream.level, status)
        line = f"{' · '.join([*said, pressed.line or '? keys'])} · {line}"
        sys.stderr.write(f"\r{line[: console.width - 1]}\x1b[K")
        sys.stderr.flush()

    def press(key):
        if key != "?":
            return pressed.press(key)
        for line in pressed.help(console.width - 1):
            sys.stderr.write(f"\r\x1b[K{line}\n" if console.is_terminal else f"{line}\n")

    blocks = finish.fade_blocks(stream, changes)
    with contextlib.ExitStack() as ports:
        if args.record is not None:
            ports.callback(record)  # once no port changes anything any more
        teller = None
        if args.midi_out is not None:
            teller = midi.tell(args.midi_out, stream.sample_rate, said.append)
            ports.callback(teller.close)
            blocks = teller.listen(blocks)
        if args.midi_in is not None:
            # Before the music, which it would else hold up where the first note is held.
            stream.hear_codes()
            ports.callback(midi.listen(args.midi_in, pressed, said.append).close)
        try:
            with signal_handlers(end, signal.SIGTERM):
                report = playback.play(
                    blocks, stream.sample_rate, device=args.device, status=show,
                    buffer=latency.buffer, prebuffer=latency.prebuffer, period=latency.period,
                    keys=press
                )
        finally:
            if console.is_terminal:
                sys.stderr.write("\r\x1b[K")
            for line in said:
                print(line, file=sys.stderr)
    print(f"played {report.seconds:.1f} s")
    if report.underruns:
        runs = "once" if report.underruns == 1 else f"{report.underruns} times"
        cheaper = [name for level, name in chain.generators.items() if level > stream.level]
        print(f"the sound ran dry {runs}: this machine is too slow or too busy for level "
              f"{stream.level}"
              + (f"; --generators {cheaper[-1]} needs less" if cheaper else ""), file=sys.stderr)
    return 0
