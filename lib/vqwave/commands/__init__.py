"""The commands: what `vqwave NAME` and scripts/*.py run. Each reads its arguments, makes a call or
two of the library and returns an exit code.

A module is imported when its command is run, so that `vqwave --help` answers at once.
"""

import argparse
import importlib
import sys

from .. import cli


def run(argv=None) -> int:
    """The command `vqwave`; returns its exit code."""
    name, *rest = [*(sys.argv[1:] if argv is None else argv), None]
    if name in cli.COMMANDS:
        with cli.set_program(f"vqwave {name}"):
            return cli.entry(lambda given: load(name).main(given), rest[:-1])
    with cli.set_program("vqwave"):
        return cli.entry(main, argv)


def load(name: str):
    """The module of a command: it has `parser()` and `main(argv)`."""
    return importlib.import_module(f".{name.replace('-', '_')}", __name__)


def main(argv=None) -> int:
    """`vqwave` without a command."""
    args = parser().parse_args(argv)
    if args.completion:
        print(completion(args.completion))
        return 0
    parser().print_help()
    return 0


def parser(full: bool = False) -> argparse.ArgumentParser:
    """The parser of `vqwave`. full: with the arguments of every command, which takes seconds."""
    made = cli.parser("Turn a folder of music into an instrument that plays endless new music in "
                      "that style.",
                      "play", "generate --seconds 30 --seed 1 --output out.wav", "generate --help")
    made.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    made.add_argument("--completion", metavar="SHELL", choices=SHELLS,
                      help=f"print what completes the command in a shell, one of "
                           f"{', '.join(SHELLS)}: source <(vqwave --completion bash)")
    commands = made.add_subparsers(metavar="COMMAND", title="commands", parser_class=type(made))
    for name, (_, what) in cli.COMMANDS.items():
        if full:
            with cli.set_program(f"vqwave {name}"):
                commands.add_parser(name, help=what, parents=[load(name).parser()], add_help=False)
        else:
            commands.add_parser(name, help=what, add_help=False)
    return made


SHELLS = ("bash", "zsh", "tcsh")


class _Version(argparse.Action):
    def __call__(self, parser, *_):
        from .. import __version__

        print(f"vqwave {__version__}")
        parser.exit()


def completion(shell: str) -> str:
    """A script for a shell that completes commands, options, choices and files.

    shtab makes it from the parsers. It is static: pressing Tab starts no Python.
    """
    import shtab

    whole = parser(full=True)
    _say_what_is_a_file(whole, shtab)
    return shtab.complete(whole, shell)


FILES = {"FILE", "F.yml", "INPUT", "PATH"}
FOLDERS = {"DIR", "SRC", "DST"}


def _say_what_is_a_file(parser, shtab):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                _say_what_is_a_file(one, shtab)
        elif action.metavar in FILES:
            action.complete = shtab.FILE
        elif action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY
