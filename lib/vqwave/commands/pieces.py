"""The common code of `vqwave generate` and `vqwave play`: options, checks, opening the stream."""

import os
import sys
from typing import Literal

from .. import cli, progress
from ..errors import UserError, check_name
from ..generators import MOST_GUIDANCE, Sampling
from ..io import weights
from ..io.files import check_replaced, printable
from ..levels import ChainConfig, level_name
from ..play import api, controls, keys, mastering, playback
from ..play.session import Session
from ..presets import load_preset
from . import arguments
from . import load as load_command

SHORTEST_PIECE, LONGEST_PIECE = 0.01, 24 * 3600
"""The shortest and the longest piece in seconds."""

SAMPLING = {
    "temperature": ("T", "below 1 safer, above 1 wilder, 0: always the likeliest code; for a VAE, "
                         "the standard deviation of the latents"),
    "top_k": ("K", "draw only from the K likeliest codes; 0: from all codes"),
    "top_p": ("P", "draw only from the likeliest codes, whose probabilities add up to P"),
    "guidance": ("G", f"how strongly the music follows --label, from 1 to "
                      f"{MOST_GUIDANCE:g}; values above 1 take twice the time"),
}
"""Options with a value for all levels, and for some: {field of `Sampling`: (metavar, help)}."""


def level_value(field: str):
    """An argparse type: the name of a level, "" for all, and the value of a field of `Sampling`."""
    number = cli.field(Sampling, field)

    def parse(text: str):
        level, _, value = text.rpartition("=")
        return level, number(value)

    return parse


NEEDS = {"prompt_seconds": ("prompt",), "prompt_start": ("prompt",), "keep_original": ("prompt",),
         "stay": ("prompt",), "keep": ("variation_of",)}
"""Options that need one of several other options: {option: the others}."""


def add_main(parser):
    """Options for length, seed, label and sampling."""
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--seconds", type=cli.number(least=SHORTEST_PIECE, most=LONGEST_PIECE),
                        metavar="S", help="length in seconds")
    length.add_argument("--length", type=cli.number(int, least=1), metavar="CODES",
                        help=f"length in frames of the top level ({load_preset().chain.top} "
                             f"samples each in the shipped chain)")
    parser.add_argument("--seed", type=cli.number(int, least=0, most=2**63 - 1), metavar="S",
                        help="the same seed gives the same music (default: a random seed, which is "
                             "printed)")
    arguments.add_label(parser)
    defaults = Sampling()
    for field, (metavar, help_text) in SAMPLING.items():
        parser.add_argument(flag(field), nargs="+", metavar=metavar,
                            type=level_value(field),
                            help=f"{help_text}; LEVEL={metavar} is for one level, such as 512x or "
                                 f"score (default: the generator's own, mostly "
                                 f"{getattr(defaults, field):g})")


def add_recording(parser):
    """Options for the recording that a piece continues or varies."""
    group = parser.add_argument_group("begin with a recording")
    recording = group.add_mutually_exclusive_group()
    recording.add_argument("--prompt", metavar="FILE",
                           help="continue this recording: the piece begins with a part of the "
                                "recording, which counts towards its length")
    group.add_argument("--prompt-start", type=cli.number(least=0), metavar="S",
                       help="second of the recording at which that part begins (default: 0)")
    group.add_argument("--prompt-seconds", type=cli.number(above=0), metavar="S",
                       help=f"seconds that the part lasts (default: {keys.PROMPT_SECONDS:g})")
    group.add_argument("--keep-original", action="store_true",
                       help="begin with the recording itself instead of its decoded codes; a "
                            "cross-fade leads into the new music")
    group.add_argument("--stay", metavar="S", type=cli.number(least=0, most=controls.HIGHEST_STAY),
                       help=f"how strongly the music keeps to the recording's pitches, from 0 to "
                            f"{controls.HIGHEST_STAY:g}; halves every minute (default: "
                            f"{controls.STAY:g})")
    recording.add_argument("--variation-of", metavar="FILE",
                           help="vary this recording: keep its codes of one level and generate the "
                                "finer levels")
    group.add_argument("--keep", metavar="LEVEL",
                       help="the level whose codes are kept, such as 128x; a smaller number stays "
                            "closer to the recording (default: the top level)")


SCORE_OPTIONS = (*(name for name, control in controls.CONTROLS.items() if control.score), "key",
                 "chords")
"""The options that steer the score."""


def add_score(parser):
    """Options for the score that the music follows."""
    group = parser.add_argument_group("score (only for weights with a score, such as those "
                                      "that play by default)")
    for name in SCORE_OPTIONS[:-2]:
        control = controls.CONTROLS[name]
        metavar = (control.unit or name[0]).upper()
        group.add_argument(f"--{name}", type=cli.number(**control.bounds), metavar=metavar,
                           help=control.about)
    group.add_argument("--key", metavar="KEY",
                       help="the score keeps to this key, such as D-minor or Bb-major, and favours "
                            "its tonic; with minor or major alone, the seed draws the tonic")
    group.add_argument("--chords", metavar="CHORDS",
                       help="the score follows these chords, a bar each, again and again, such as "
                            "\"Am F C G\"")
    group.add_argument("--mood", metavar="WORDS",
                       help=f"words separated by commas, of {', '.join(controls.MOODS)}: they set "
                            f"--tempo, --density, --key and --label (loud, soft: the loudest or "
                            f"softest third of the training music); options that you give win")
    group.add_argument("--score-from", metavar="FILE",
                       help="perform a .mid file or a transcribed recording; then the model "
                            "composes on")


def add_models(parser):
    """Options for the weights and the engine."""
    group = parser.add_argument_group("models")
    arguments.add_weights(group, preset=True)
    arguments.add_epoch(group, "generators")
    group.add_argument("--generators", metavar="NAMES",
                       help="where the chain ends: all, or a generator, or generators from the top "
                            "down, separated by commas; a score joins by itself (default: the end "
                            "in chain.yml, or all)")
    arguments.add_engine(group)
    group.add_argument("--no-gpu", action="store_true", help="do not use a GPU to export weights")


def add_rare(parser):
    """The rare options of both commands."""
    parser.add_argument("--latency", choices=playback.LATENCIES, default="normal",
                        help="low: changes are heard sooner, at a higher cost; the same seed may "
                             "give another piece")
    parser.add_argument("--intro", action="store_true",
                        help="with --score-from: keep the rests before the first note (default: "
                             "skip them)")
    parser.add_argument("--no-leveling", action="store_true",
                        help="keep the loudness as it is composed")
    parser.add_argument("--replay", metavar="FILE",
                        help="repeat a session (a seed and changes) that --record or the "
                             "studio saved; with --seed, make the same changes to another piece")
    arguments.add_force(parser)


def flag(option: str) -> str:
    """The option as it is typed."""
    return f"--{option.replace('_', '-')}"


def parse(parser, argv, other: str, text: str):
    """The arguments. other: another command. text: says that this command has an option."""
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        where = f"; {text}" if load_command(other).parser().names(unknown[0]) else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{where}")
    return args


def check(args, outputs=(), needs=NEEDS):
    """Set the options that --mood stands for. Raises `UserError` if options contradict each other,
    for a missing recording, and if a file would be replaced.
    """
    for option in ("variation_of", "prompt"):
        if args.score_from is not None and getattr(args, option) is not None:
            raise UserError(f"--score-from and {flag(option)} exclude each other")
    for name, value in controls.read_mood(args.mood).items() if args.mood else ():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for option, others in needs.items():
        value = getattr(args, option)
        if (value is not None and value is not False
                and all(getattr(args, other) is None for other in others)):
            raise UserError(f"{flag(option)} needs {' or '.join(map(flag, others))}")
    inputs = [*filter(None, (args.prompt, args.variation_of, args.score_from))]
    for path in inputs:
        if not os.path.exists(path):
            raise UserError(f"{printable(path)}: no such file")
    check_replaced(outputs, args.force, inputs)


def load(args) -> api.VQWave:
    """The models, after --no-gpu."""
    if args.no_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # before any library searches for a GPU
    return api.load(args.vqvae_weights_dir, args.generator_weights_dir, args.engine, args.epoch,
                    preset=args.preset)


def describe(music, names):
    """Print the weights in use."""
    for line in weights.describe([music.weight_set(name) for name in dict.fromkeys(names)]):
        print(printable(line), file=sys.stderr)


def open_stream(args, music, past: float = 0.0, batch: int | None = None):
    """The stream for the arguments, and its changes: the score's options, then the changes of
    --replay. Prints the weights in use.
    """
    chain = music.chain
    if args.variation_of is not None:
        args.keep = chain.top if args.keep is None else chain.check_level(args.keep)
    level = music.ending(bottom(args.generators, chain), args.keep)
    encoded = [args.keep or level, level] if args.prompt is None else chain.down_to(level)
    for x in encoded:
        music.weight_set(chain.codecs[x]).config.check_codes()
    describe(music, [*(chain.codecs[x] for x in encoded),
                     *map(chain.generator, chain.generated(level, args.keep))])
    options = {"level": level, "samples": piece_length(args, music), "sampling": sampling(args),
               "begin": begin(args, music, level)}
    score = None if args.score_from is None else music.score(args.score_from)
    session, seed = None, args.seed
    if args.replay is not None:
        session, past = Session.read(args.replay), controls.MOST_PAST
        seed = session.seed if seed is None else seed
    stream = music.stream(seed=seed, past=past, batch=batch, score=score, label=args.label,
                          latency=args.latency, intro=args.intro, leveling=not args.no_leveling,
                          **options)
    change = {name: value for name in SCORE_OPTIONS if (value := getattr(args, name)) is not None}
    stream.check(stream.queued, **change)
    changes = [(0, change)] if change else []
    if session:
        session.check(stream)
        changes += session.changes
    return stream, changes


def piece_length(args, music) -> int | None:
    """The samples to generate; None: endless."""
    rate = music.sample_rate
    samples = (api.samples_in(args.seconds, rate) if args.seconds
               else args.length * music.chain.top if args.length else None)
    if samples is not None and samples > LONGEST_PIECE * rate:
        raise UserError(f"--length {args.length} is {samples / rate / 3600:.1f} hours; a piece "
                        f"lasts at most {LONGEST_PIECE // 3600}")
    if getattr(args, "loop", False) and samples is not None and not args.variation_of:
        samples += mastering.loop_margin(rate, samples)
    return samples


def sampling(args) -> dict:
    """The values of the options in `SAMPLING`, as `choose_sampling` takes them."""
    chosen: dict = {}
    for field in SAMPLING:
        for level, value in getattr(args, field) or ():
            fields = chosen.setdefault(level, {}) if level else chosen
            if field in fields:
                raise UserError(f"{flag(field)} has several values for {level or 'all levels'}; "
                                f"name the level of a value, such as score={value:g}")
            fields[field] = value
    return chosen


def begin(args, music, level: int):
    """The encoded prompt or source; None without a recording."""
    rate, start = music.sample_rate, args.prompt_start or 0.0
    if args.prompt is not None:
        prompt = music.prompt(args.prompt, seconds=args.prompt_seconds or keys.PROMPT_SECONDS,
                              start=start, level=level, keep_original=args.keep_original,
                              stay=args.stay)
        print(f"continues {printable(args.prompt)}: {len(prompt.audio) / rate:.2f} s from "
              f"{start:g} s on", file=sys.stderr)
        return prompt
    if args.variation_of is None:
        return None
    with progress.share_bar() as update:
        source = music.source(args.variation_of, args.keep, lambda x: update("encoding", x))
    print(f"varies {printable(args.variation_of)}: {source.samples / rate:.2f} s, keeping the "
          f"codes at {level_name(args.keep)}", file=sys.stderr)
    return source


def bottom(names: str | None, chain: ChainConfig) -> int | Literal["all"] | None:
    """The level at which --generators ends the chain, as `VQWave.ending` takes it. Raises
    `UserError` for an unknown name.
    """
    if names is None:
        return None
    levels = {name: level for level, name in chain.generators.items()}
    chosen = [check_name("generator", name.strip(), [*levels, "all"]) for name in names.split(",")]
    return "all" if "all" in chosen else min(levels[name] for name in chosen)
