"""Play music to the speakers while it is generated; keys and MIDI change it."""

import argparse
import contextlib
import sys
from pathlib import Path

from rich.console import Console

from .. import cli
from ..errors import UserError
from ..io import files, weights
from ..io.files import printable
from ..play import keys, midi, playback, render, sync
from ..play.session import Session
from . import arguments, pieces

PAST = 16.0
"""The most seconds of past music that can be held or frozen."""
NEEDS = pieces.NEEDS | {"force": ("record",)}


def parser() -> argparse.ArgumentParser:
    parser = cli.parser(
        "Play music live while it is generated, endlessly unless a length is given. Space pauses, "
        "q or Ctrl-C fades out and stops, ? lists the keys that change the music. "
        f"`{cli.command('generate')} --output FILE` writes a file instead.\n"
        "Exit codes: 0 finished or stopped; 2 error.",
        "",
        "--seed 1 --temperature 0.95",
        "--prompt song.mp3 --prompt-start 60",
        "--variation-of song.mp3",
        "--generator-weights-dir weights/both --label wesnoth:0.7,singularity:0.3",
        "--preset prior_transformer",
    )
    pieces.add_main(parser)
    pieces.add_recording(parser)
    pieces.add_score(parser)
    live = parser.add_argument_group("while it plays")
    live.add_argument("--recordings", nargs="+", metavar="FILE",
                      help="recordings for the key r, which continues the next recording")
    live.add_argument("--other-weights", nargs="+", metavar="DIR",
                      help="folders of weights for the key w, which cross-fades to music by the "
                           "next folder")
    live.add_argument("--midi-in", metavar="PORT",
                      help="MIDI input, by a part of the port's name: held notes pull the music "
                           "towards them, the modulation wheel raises the temperature, a clock "
                           "sets the tempo of a score (start, stop and the place in a beat are "
                           "ignored)")
    live.add_argument("--midi-out", metavar="PORT",
                      help="send the score's notes to this MIDI output, by a part of its name")
    arguments.add_partners(live)
    live.add_argument("--record", metavar="FILE",
                      help="save the session (the seed and all changes); repeat it with "
                           "--replay, the same --latency and the same --score-from")
    pieces.add_models(parser)
    rare = parser.add_argument_group("rare options")
    rare.add_argument("--device", metavar="D", help="sound device, by number or name")
    rare.add_argument("--fade", type=cli.number(above=0), metavar="S",
                      help="fade in and out, S seconds each")
    pieces.add_rare(rare)
    return parser


def main(argv=None) -> int:
    writes = f"`{cli.command('generate')} --output FILE`"
    args = pieces.parse(parser(), argv, "generate", f"{writes} has the options for files")
    for path in args.recordings or ():
        if not Path(path).is_file():
            raise UserError(f"{printable(path)}: no such file")
    for folder in args.other_weights or ():
        weights.existing_folder(folder)
    pieces.check(args, [files.check_place(args.record)] if args.record is not None else [], NEEDS)
    playback.check_device(args.device)
    music = pieces.load(args)
    if music.vae is not None:
        music.weight_set(music.vae).config.check_codes(f"playing, without {writes},")
    stream, changes = pieces.open_stream(args, music, PAST)
    finish = render.Finish(args.fade)
    finish.check(stream)
    print(f"seed {stream.seed}", flush=True)
    with stream:
        end = play(stream, args, finish, changes)
    print(f"played {end.seconds:.1f} s")
    if end.underruns:
        print(f"underruns, where the sound stopped: {end.underruns}. This machine is too slow or "
              f"too busy: close other programs, or write a file with vqwave generate",
              file=sys.stderr)
    return 0


def play(stream, args, finish, changes=()) -> playback.Status:
    """Play a stream until it ends or the listener stops it."""
    pressed = keys.Keys(stream, args.recordings or (), args.other_weights or ())
    latency = playback.LATENCIES[args.latency]
    first_seed, stream.changed = stream.seed, []
    blocks, display = finish.fade_blocks(stream, changes), Display(stream, pressed)
    followers: list[midi.Output | sync.Beats] = []

    def show(status):
        for follower in followers:
            follower.send(status.seconds * stream.sample_rate, status.paused)
        display.show(status)

    with contextlib.ExitStack() as stack:
        if args.record is not None:  # called after the ports close, which may change the music
            stack.callback(record, args.record, stream, first_seed, pressed, changes)
        if not stream.has_score and (args.midi_out or args.osc or args.link):
            raise UserError("--midi-out, --osc and --link need weights with a score")
        stack.callback(lambda: [follower.close() for follower in followers])
        if args.midi_out is not None:
            _, port = midi.open_port("output", args.midi_out)
            followers.append(midi.Output(port, stream, display.notices.append))
        if partners := sync.partners(args):
            followers.append(sync.Beats(stream, partners, pressed.follow))
        for follower in followers:
            blocks = follower.follow(blocks)
        if args.midi_in is not None:
            stream.measure_pitches()  # now, because later it would interrupt the music
            listener = midi.open_input(args.midi_in, pressed, display.notices.append)
            stack.callback(listener.close)
        stack.callback(display.close)
        return playback.play(blocks, stream.sample_rate, latency, device=args.device, show=show,
                             press=display.press)


def record(path, stream, seed: int, pressed, changes):
    """Save the session: the changes so far, then the rest of the changes of --replay."""
    if not stream.position:
        return
    replayed = len(stream.changed) - len(pressed.changes)
    rest = sorted(changes, key=lambda change: change[0])[replayed:]
    Session(seed=seed, changes=(*stream.changed, *rest)).write(path)
    print(f"wrote {printable(Path(path))}", file=sys.stderr)


class Display:
    """The last line of a terminal: keys, position. notices: lines from the MIDI ports."""

    def __init__(self, stream, pressed: keys.Keys):
        self.stream, self.pressed = stream, pressed
        self.console, self.notices = Console(stderr=True), []

    def show(self, status: playback.Status):
        parts = [*self.notices, self.pressed.line or "? keys",
                 playback.status_line(self.stream.level, status)]
        self._write(f"{' · '.join(parts)[: self.console.width - 1]}\x1b[K")

    def press(self, key: str):
        if key != "?":
            self.pressed.press(key)
            return
        for line in self.pressed.help(self.console.width - 1):
            self._write(f"\x1b[K{line}\n")

    def close(self):
        self._write("\x1b[K")
        for line in self.notices:
            print(line, file=sys.stderr)

    def _write(self, text: str):
        if self.console.is_terminal:
            print(f"\r{text}", end="", file=sys.stderr, flush=True)
