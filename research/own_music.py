"""What a training that began with trained models has learnt: `python -m research.own_music`."""

from __future__ import annotations

import sys
from pathlib import Path

from vqwave import cli, config, progress
from vqwave.commands import arguments
from vqwave.errors import UserError
from vqwave.io import weights
from vqwave.io.files import printable
from vqwave.play import api
from vqwave.report import fad, folder_page
from vqwave.report.tables import render
from vqwave.train import plan

from . import results
from .corpus import read_sides


def parser():
    parser = cli.parser(
        "Measure how near a short training on one's own music came, and what it took. Writes "
        "report.html into the folder of the weights and research/results/NAME_own.md.",
        "--data-dir data/singularity --split recipes/singularity/split.yml "
        "--weights-dir weights/singularity_own")
    arguments.add_data(parser)
    parser.add_argument("--split", required=True, metavar="F.yml")
    parser.add_argument("--weights-dir", required=True, metavar="DIR")
    parser.add_argument("--scratch", metavar="DIR", help="generators trained from nothing")
    parser.add_argument("--targets", default="recipes/own_music.yml", metavar="F.yml")
    parser.add_argument("--minutes", type=cli.number(above=0), default=10.0, metavar="M")
    arguments.add_musicnn(parser)
    results.add_results(parser)
    return parser


def read_run(folder) -> dict:
    """What `vqwave train` recorded of the training in a folder."""
    path = Path(folder) / plan.FILE
    values = config.load_yaml(path)
    if "origin" not in values:
        raise UserError(f"{printable(path)}: this training did not begin with trained models")
    return values


def figures(measured: folder_page.Results, run: dict, scratch: list[dict]) -> dict[str, float]:
    """The figures that recipes/own_music.yml has bounds for, as far as they were measured."""
    def change(pairs):
        return max((100 * (now / then - 1) for now, then in pairs if now and then), default=None)

    real = measured.distance and measured.distance["training"]
    values = {
        "from the command to the first new music": run.get("first_music") and
        run["first_music"] / 60,
        "distance to held-out tracks, as a multiple of what real music has":
            measured.distance["generated"] / real if real else None,
        "bits a frame of held-out tracks, against the models it began with, worst level":
            change((row["bits"], row["before"]) for row in measured.generators),
        "bits a frame of held-out tracks, against a training from nothing, worst level":
            change((row["bits"], other["bits"]) for row, other in
                   zip(measured.generators, scratch, strict=False)),
        "memory": run.get("memory") and run["memory"] / 1e9}
    return {name: value for name, value in values.items() if value is not None}


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    run = read_run(args.weights_dir)
    targets = results.read_targets(args.targets)
    music = api.load(args.weights_dir, args.weights_dir)
    top = music.weight_set(music.chain.generator(music.chain.top))
    sides, spans = read_sides(args.data_dir, args.split, top.trim_silence)
    embed = fad.load_if_available(args.musicnn, lambda line: print(line, file=sys.stderr))
    with progress.share_bar() as show:
        measured = folder_page.measure(music, args.data_dir, sides, spans, args.minutes, embed,
                                       show)
    name = f"{Path(args.data_dir).resolve().name}_own"
    folder_page.write(measured, Path(args.weights_dir) / "report.html", name, args.weights_dir,
                  music.chain.names)
    scratch = [folder_page.training_figures(weights.find(args.scratch, row["model"]))
               for row in measured.generators] if args.scratch else []
    bounds = results.figure_tables({"held-out": {"own music": figures(measured, run, scratch)}},
                                   targets)
    command = results.command_line("own_music", sys.argv[1:] if argv is None else argv)
    page = results.page(name, command, results.describe_side("test", sides[1], {}),
                        *bounds.values(),
                        render(measured.generators, folder_page.GENERATORS))
    print(f"wrote {printable(results.write(args.output_dir, name, page))}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
