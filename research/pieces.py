"""Draws six generated pieces beside real tracks: two pieces in each third of the tempi, the first
seeds that fall there. Of each: the score, the notes that a transcriber hears, and how alike the
harmony of any two moments is. The sounds lie beside the picture.
"""

import sys
from pathlib import Path

import numpy as np

from vqwave import cli, figures
from vqwave.commands import arguments
from vqwave.data.scores import Score
from vqwave.io import audio, manifest
from vqwave.play import api

SECONDS, OF_EACH_THIRD = 120.0, 2
REAL = "heroes_rite", "silvan_sanctuary"
WINDOW = 8  # half seconds of harmony that are compared


def choose(music) -> list[tuple[float, int, np.ndarray, np.ndarray]]:
    """(tempo, seed, sound, score), the slowest first. score: rows of begin and end in
    seconds, and MIDI number.
    """
    composer = music.generator("score")
    edges = np.quantile(composer.corpus["tempi"], np.arange(1, 3) / 3)
    thirds: list[list] = [[], [], []]
    for seed in range(1, 100):
        with music.stream(seed=seed, seconds=SECONDS) as stream:
            first = next(stream)
            tempo = stream.tempo
            third = thirds[np.searchsorted(edges, tempo, "right")]
            if len(third) < OF_EACH_THIRD:
                sound = np.concatenate([first, *stream])
                notes = np.array(stream.notes(0, len(sound)))[:, :3]
                seconds = notes / (music.sample_rate, music.sample_rate, 1)
                third.append((tempo, seed, sound, seconds))
        if all(len(third) == OF_EACH_THIRD for third in thirds):
            return sorted(sum(thirds, []), key=lambda piece: piece[0])
    raise AssertionError("no seed has such a tempo")


def draw(pieces: dict[str, tuple[np.ndarray, np.ndarray | None]], rate: int, path):
    """A row for each piece: score (None: as heard), transcription, self-similarity of harmony."""
    figure, axes = figures.create(13.0, 1.0 + 1.7 * len(pieces), "", len(pieces), 3)
    for row, (title, (sound, score)) in zip(axes, pieces.items(), strict=True):
        heard = Score.of(sound, rate)
        notes = np.stack([heard.starts, heard.ends, heard.pitches], axis=1)
        for axis, lines, name in zip(row, (notes if score is None else score, notes),
                                     (f"{title}: score", "as heard"), strict=False):
            begin, end, midi = lines.T
            axis.hlines(midi, begin, end, color=figures.BLUE, linewidth=1.5)
            axis.set(xlim=(0, SECONDS), ylim=(30, 96))
            axis.set_title(name, fontsize="small", loc="left")
        row[2].imshow(self_similarity(notes), origin="lower", cmap="magma", vmin=0, vmax=1,
                      extent=(0, SECONDS, 0, SECONDS), aspect="auto")
        row[2].set_title("harmony of two moments, bright where alike", fontsize="small", loc="left")
    figures.save(figure, path)


def self_similarity(notes) -> np.ndarray:
    """The cosine of the pitch classes that any two windows sound: [windows, windows]."""
    classes = np.zeros((int(2 * SECONDS), 12))
    for begin, end, midi in notes:
        classes[int(2 * begin) : int(2 * end) + 1, int(midi) % 12] += 1
    windows = np.lib.stride_tricks.sliding_window_view(classes, WINDOW, 0).reshape(-1, 12 * WINDOW)
    windows = windows / np.maximum(np.linalg.norm(windows, axis=1, keepdims=True), 1e-9)
    return windows @ windows.T


def main(argv=None) -> int:
    parser = cli.parser(" ".join(__doc__.split()), "--data-dir data/wesnoth")
    arguments.add_data(parser)
    parser.add_argument("--output-dir", default="docs/results/vqwave", type=Path, metavar="DIR")
    args = parser.parse_args(argv)
    music, pieces = api.load(), {}
    for tempo, seed, sound, notes in choose(music):
        pieces[f"seed {seed}, {tempo:.0f} bpm"] = sound, notes
        audio.write(args.output_dir / f"seed_{seed}.ogg", sound[: 60 * music.sample_rate],
                    music.sample_rate)
    for track in manifest.read(args.data_dir):
        if (name := track.file.split(".")[0]) in REAL:
            count = round(SECONDS * music.sample_rate)
            pieces[f"real: {name}"] = audio.from_u16(
                audio.read_window(track.path(args.data_dir), 0, count)), None
    draw(pieces, music.sample_rate, args.output_dir / "form.png")
    return 0


if __name__ == "__main__":
    sys.exit(cli.entry(main))
