"""The commands of `vqwave NAME` and scripts/*.py. Each module has `parser()` and
`main(argv) -> exit code`, and is imported when its command runs, so that `vqwave --help` answers at
once.
"""

import argparse
import difflib
import importlib
import sys

from .. import __version__, cli
from ..errors import UserError

SHELLS = ("bash", "zsh", "fish", "tcsh")
FILES, FOLDERS = {"FILE", "F.yml", "INPUT", "PATH"}, {"DIR", "SRC", "DST"}
"""Metavars that a shell completes with files, and with folders."""


def run(argv=None) -> int:
    """The command `vqwave`; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in cli.COMMANDS:
        with cli.set_program(f"vqwave {words[0]}"):
            return cli.entry(load(words[0]).main, words[1:])
    with cli.set_program("vqwave"):
        return cli.entry(main, words)


def load(name: str):
    """The module of a command."""
    return importlib.import_module(f".{name.replace('-', '_')}", __name__)


def main(argv=None) -> int:
    """`vqwave` without a command."""
    if argv and not argv[0].startswith("-"):
        near = difflib.get_close_matches(argv[0], cli.COMMANDS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(cli.COMMANDS)}"
        raise UserError(f"no command is called {argv[0]!r}; {hint}")
    args = parser().parse_args(argv)
    if args.completion:
        print(completion(args.completion))
    else:
        parser().print_help()
    return 0


def parser(full: bool = False) -> argparse.ArgumentParser:
    """The parser of `vqwave`. full: with the options of every command, which takes seconds."""
    parser = cli.parser("Turn a folder of music into an instrument that plays endless new music in "
                        "that style.",
                        "play", "generate --seconds 30 --seed 1 --output out.wav",
                        "generate --help")
    parser.add_argument("--version", action="version", version=f"vqwave {__version__}",
                        help="print the version and exit")
    parser.add_argument("--completion", metavar="SHELL", choices=SHELLS,
                        help=f"print the completion script of a shell ({', '.join(SHELLS)}): "
                             f"source <(vqwave --completion bash)")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands",
                                     parser_class=type(parser))
    for name, (_, what) in cli.COMMANDS.items():
        if full:
            with cli.set_program(f"vqwave {name}"):
                commands.add_parser(name, help=what, parents=[load(name).parser()], add_help=False)
        else:
            commands.add_parser(name, help=what, add_help=False)
    return parser


def completion(shell: str) -> str:
    """A script that completes commands, options, choices and files without starting Python."""
    import shtab

    full = parser(full=True)
    _mark_files(full, shtab)
    return shtab.complete(full, shell)


def _mark_files(parser, shtab):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _mark_files(command, shtab)
        elif action.metavar in FILES:
            action.complete = shtab.FILE
        elif action.metavar in FOLDERS:
            action.complete = shtab.DIRECTORY
