"""Generate music with the trained chain and write it to a file."""

import sys

from .. import cli
from ..errors import UserError
from ..io import audio
from ..io.files import printable
from ..play import mastering, midi_files, render
from . import pieces, play

SECONDS = 30.0
"""The default length of a piece."""
NEEDS = pieces.NEEDS | {"guidance": ("label", "replay")}
CODE_OPTIONS = ("generators", "length", "top_k", "top_p", "guidance", "replay", "batch", "latency",
                "prompt", "variation_of", "score_from", "intro", "no_leveling",
                *pieces.SCORE_OPTIONS)
"""The options that a VAE does not take, because its frames are no codes."""


def parser() -> cli.Parser:
    parser = cli.parser(
        "Generate music and write it to a file. Without --output, the music plays: see "
        f"`{cli.command('play')} --help`.\n"
        "Exit codes: 0 finished; 2 error; 130 stopped by Ctrl-C, nothing written.",
        "--seconds 30 --seed 1 --output out.wav",
        "--prompt song.mp3 --prompt-start 60 --seconds 30 --output continued.wav",
        "--score-from song.mid --seconds 60 --normalize --output performed.flac",
        "--seconds 20 --loop --output loop.wav",
        "--seed 1 --output out.wav --midi score.mid",
        "--preset cvae --label jazz --seconds 30 --output jazz.wav",
    )
    parser.add_argument("-o", "--output", metavar="FILE",
                        help=f"the .wav, .flac or .ogg file to write; {SECONDS:g} s without "
                             f"--seconds or --length")
    pieces.add_main(parser)
    parser.add_argument("--batch", type=cli.number(int, least=1), metavar="N",
                        help="generate N pieces at once: out_1.wav, out_2.wav, …")
    pieces.add_recording(parser)
    pieces.add_score(parser)
    finish = parser.add_argument_group("finish")
    ends = finish.add_mutually_exclusive_group()
    ends.add_argument("--fade", type=cli.number(above=0), metavar="S",
                      help="fade in and out, S seconds each")
    ends.add_argument("--loop", action="store_true",
                      help="make a loop without a seam, up to half a second shorter than the given "
                           "length (a variation: up to a second)")
    finish.add_argument("--normalize", action="store_true",
                        help=f"normalise to {mastering.NORMALIZED_TO:g} LUFS; a limiter prevents "
                             f"clipping")
    pieces.add_models(parser)
    rare = parser.add_argument_group("rare options")
    rare.add_argument("--midi", nargs="?", const=True, metavar="FILE",
                      help="also write a .mid file (default: of the same name): the score, or a "
                           "transcription of the sound if there is no score")
    pieces.add_rare(rare)
    return parser


def main(argv=None) -> int:
    words = sys.argv[1:] if argv is None else argv
    options = parser()
    if not any(options.names(word) & {"--output", "--help"} for word in words):
        return play.main(words)
    args = pieces.parse(options, words, "play",
                        f"`{cli.command('play')}` has the options for playing")
    paths = render.check_outputs(args.output, args.batch or 1)
    if args.length is None and args.seconds is None and not args.variation_of:
        args.seconds = SECONDS
    if args.midi is not None:
        args.midi = ([path.with_suffix(".mid") for path in paths] if args.midi is True
                     else render.check_outputs(args.midi, len(paths), midi_files.check_output))
    pieces.check(args, [*paths, *(args.midi or ())], NEEDS)
    finish = render.Finish(args.fade, args.loop, args.normalize)
    music = pieces.load(args)
    if music.vae is not None:
        return write(args, sample_prior(args, music), paths, finish)
    stream, changes = pieces.open_stream(args, music, batch=args.batch if len(paths) > 1 else None)
    with stream:
        return write(args, stream, paths, finish, changes)


def sample_prior(args, music):
    """The sample of a VAE's prior."""
    codec, defaults = music.weight_set(music.vae).config, parser()
    for option in CODE_OPTIONS:
        if getattr(args, option) != defaults.get_default(option):
            codec.check_codes(pieces.flag(option))
    [(level, temperature), *more] = args.temperature or [("", 1.0)]
    if more or level:
        raise UserError(f"--temperature: {codec.name} is a VAE and takes one value")
    pieces.describe(music, [music.vae])
    return music.sample_prior(pieces.piece_length(args, music), seed=args.seed,
                              temperature=temperature, label=args.label)


def write(args, stream, paths, finish, changes=()) -> int:
    """Write all pieces and print the files. Returns the exit code."""
    finish.check(stream)
    print(f"seed {stream.seed}", flush=True)
    rate = stream.sample_rate
    lengths, speed = render.write_pieces(stream, paths, finish, changes)
    for piece, (path, count) in enumerate(zip(paths, lengths, strict=True)):
        print(f"wrote {printable(path)}: {count / rate:.2f} s, {count} samples")
        if args.midi:
            notes, beats = stream.whole_score(stream.position, piece)
            if not notes:
                print(f"transcribing {printable(path)}", file=sys.stderr)
                notes = midi_files.heard_notes(audio.decode(path, rate), rate)
            midi_files.write(args.midi[piece], notes, rate, beats)
            print(f"wrote {printable(args.midi[piece])}: {len(notes)} notes")
    print(f"{speed:.1f} x real time", file=sys.stderr)
    return 0
