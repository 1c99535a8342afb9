"""Compare codecs of several folders on several corpora: `python -m research.compare_codecs`."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vqwave import cli, progress
from vqwave.errors import UserError
from vqwave.io import labels, weights
from vqwave.io.files import printable
from vqwave.play import engine
from vqwave.report import fad, judge
from vqwave.report.tables import Column, render

from . import results
from .corpus import read_split
from .evaluators.codecs import baselines_at, measure_baseline

COLUMNS = (*(Column(name, name) for name in ("codecs", "corpus", "level")),
           Column("kbit/s", "bitrate_kbps", ".2f"), Column("notes kept", "notes", ".3f"),
           Column("chroma", "chroma", ".3f"), Column("contour", "contour", ".2f"),
           Column("attacks", "attacks", ".2f"), Column("note events", "note_events", ".2f"),
           Column("SC dB", "sc_db", ".2f"),
           Column("mel", "mel", ".3f"), Column("contrast error", "contrast", ".1f"),
           Column("roughness excess dB", "roughness", ".1f"), Column("whistle", "whistle", ".2f"),
           Column("SI-SDR dB", "si_sdr_db", ".2f"),
           Column("distance", "distance", ".1f"), Column("perplexity", "perplexity", ".0f"),
           Column("latency ms", "latency_ms", ".0f"), Column("steps", "steps"),
           Column("trained on", "leaked"))


def parser():
    parser = cli.parser(
        "Measure the codecs of every folder on the test tracks of every data folder of their "
        "sample rate. Several folders of one name are trainings with different seeds: their mean "
        "is shown. Writes research/results/NAME.md.",
        "--codecs shipped=final_weights mine=weights/mine --data-dirs data/wesnoth")
    parser.add_argument("--codecs", nargs="+", required=True, metavar="NAME=DIR",
                        type=results.named)
    results.add_corpora(parser)
    parser.add_argument("--only-on", nargs="+", default=(), metavar="NAME=DIR",
                        type=results.named,
                        help="codecs of one data folder, on which no other codecs are measured")
    results.add_arguments(parser, "codecs_on_other_music")
    return parser


class TestTracks:
    """The test tracks of a data folder: what codecs are measured on."""

    def __init__(self, data_dir, split):
        self.name = Path(data_dir).resolve().name
        self.tracks = read_split(data_dir, split)["test"]
        if not self.tracks:
            raise UserError(f"{split}: names no test track")
        self.rate, spans = self.tracks[0].sample_rate, {t.file: (0, t.samples) for t in self.tracks}
        self.audible, self.sounds = zip(*judge.excerpts(
            data_dir, self.tracks, spans, judge.EXCERPT_SECONDS), strict=True)

    def measure(self, weight_set, embed, engine_name: str) -> dict:
        """The figures of a codec."""
        config, leaked = weight_set.config, judge.find_leaked(weight_set, self.tracks)
        own = [labels.known_label(track, config.labels) for track in self.audible]
        return judge.judge(engine.CodecEngine(weight_set, engine_name), self.sounds, embed=embed,
                           track_labels=own) | {
            "level": f"{config.level}x", "steps": weight_set.record.get("step"),
            "leaked": "unknown" if leaked is None else ", ".join(leaked) or None}


def average(rows: Sequence[Mapping]) -> list[dict]:
    """One row for trainings that differ in their seed: figures become lists, shown as means."""
    groups: dict[tuple, list] = {}
    for row in rows:
        groups.setdefault((row["corpus"], row.get("level"), row["codecs"]), []).append(row)
    return [{key: [x[key] for x in group if x.get(key) is not None]
             if isinstance(value, float) and len(group) > 1 else value
             for key, value in group[0].items()} for group in groups.values()]


def main(argv=None) -> int:
    args = parser().parse_args(argv)
    corpora = [TestTracks(*pair) for pair in results.corpora(args)]
    only_on = {name: Path(folder).resolve().name for name, folder in args.only_on}
    pairs = []
    for name, folder in args.codecs:
        folder = weights.existing_folder(folder)
        names = [x for x in weights.chain(folder).codecs.values() if weights.tags(folder, x)]
        if not names:
            raise UserError(f"{printable(folder)}: holds no trained codec")
        pairs += [(name, weights.find(folder, x), tracks) for x in names for tracks in corpora
                  if only_on.get(name, tracks.name) == tracks.name
                  and (name in only_on or tracks.name not in only_on.values())
                  and weights.find(folder, x).config.sample_rate == tracks.rate]
    embed = fad.load_if_available(args.musicnn, lambda line: print(line, file=sys.stderr))
    with progress.bar() as bar:
        rows = [{"codecs": name, "corpus": tracks.name}
                | tracks.measure(weight_set, embed, args.engine)
                for name, weight_set, tracks in bar.track(pairs, description="codecs")]
    rows += [measure_baseline(tracks.sounds, tracks.rate, embed, *encoding)
             | {"codecs": name, "corpus": tracks.name} for tracks in corpora
             if any(row["corpus"] == tracks.name and row.get("bitrate_kbps") for row in rows)
             for name, *encoding in baselines_at(tracks.rate) if encoding[1] < 10_000]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    page = results.page(args.name, "compare_codecs", argv, *(
        results.describe_side("test", tracks.tracks, {}) for tracks in corpora),
        render(average(rows), COLUMNS), fad.DEAF)
    print(f"wrote {printable(results.write(args.output_dir, args.name, page))}")
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
