"""Draws six generated pieces beside real tracks: two pieces in each third of the tempi, the first
seeds that fall there. Of each: the score, the notes that a transcriber hears, and how alike the
harmony of any two moments is. The sounds lie beside the picture.

    python -m research.pieces --data-dir data/wesnoth
"""

import argparse
from pathlib import Path

import numpy as np

from vqwave import figures
from vqwave.data.scores import Score, of_track
from vqwave.io import audio, manifest
from vqwave.play import api
from vqwave.play.score import TEMPI

SECONDS, A_REGION = 120.0, 2
REAL = "heroes_rite", "silvan_sanctuary"


def choose(music) -> list[tuple[float, int, np.ndarray, list]]:
    """(tempo, seed, sound, notes of the score) of each chosen piece, the slowest first."""
    edges = TEMPI[0] * (TEMPI[1] / TEMPI[0]) ** (np.arange(4) / 3)
    chosen, counts = [], np.zeros(3, int)
    for seed in range(1, 100):
        with music.stream(seed=seed, seconds=SECONDS) as stream:
            blocks = [next(stream)]
            tempo = stream._chain.score.state.tempo
            region = min(2, int(np.searchsorted(edges, tempo, "right")) - 1)
            if counts[region] < A_REGION:
                counts[region] += 1
                sound = np.concatenate([*blocks, *stream])
                rows = stream.notes(0, len(sound))
                chosen.append((tempo, seed, sound, [
                    (begin / music.sample_rate, end / music.sample_rate, midi)
                    for begin, end, midi in rows]))
        if counts.sum() == 3 * A_REGION:
            return sorted(chosen, key=lambda piece: piece[0])
    raise AssertionError("no seed has such a tempo")


def draw(pieces: dict[str, tuple[np.ndarray, list]], rate: int, path):
    """A row for each piece: score, transcription, self-similarity of the harmony."""
    figure, axes = figures.create(13.0, 1.0 + 1.7 * len(pieces), "", len(pieces), 3)
    for row, (title, (sound, score)) in zip(axes, pieces.items(), strict=True):
        notes = events(Score.of(sound, rate))
        for axis, lines, name in zip(row, (score, notes), (f"{title}: score", "as heard"),
                                     strict=False):
            begin, end, midi = np.array(lines).T
            axis.hlines(midi, begin, end, color=figures.BLUE, linewidth=1.5)
            axis.set(xlim=(0, SECONDS), ylim=(30, 96))
            axis.set_title(name, fontsize="small", loc="left")
        row[2].imshow(alike(notes), origin="lower", cmap="magma", vmin=0, vmax=1,
                      extent=(0, SECONDS, 0, SECONDS), aspect="auto")
        row[2].set_title("harmony of two moments, bright where alike", fontsize="small", loc="left")
    figures.save(figure, path)


def events(score: Score) -> list[tuple[float, float, int]]:
    """(first second, last second, MIDI number) of each note."""
    return list(zip(score.starts, score.ends, score.pitches, strict=True))


def alike(notes, window: float = 4.0) -> np.ndarray:
    """The cosine of what any two windows of `window` seconds sound, a pitch class each half second:
    [windows, windows].
    """
    classes = np.zeros((int(2 * SECONDS), 12))
    for begin, end, midi in notes:
        classes[int(2 * begin) : int(2 * end) + 1, int(midi) % 12] += 1
    count = int(2 * window)
    flat = np.stack([classes[i : i + count].ravel() for i in range(len(classes) - count)])
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)
    return flat @ flat.T


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--output-dir", default="docs/results/timed", type=Path)
    args = parser.parse_args()
    music = api.load()
    pieces = {}
    for tempo, seed, sound, notes in choose(music):
        pieces[f"seed {seed}, {tempo:.0f} bpm"] = sound, notes
        audio.write(args.output_dir / f"seed_{seed}.ogg", sound[: 60 * music.sample_rate],
                    music.sample_rate)
    for track in manifest.read(args.data_dir):
        if (name := track.file.split(".")[0]) in REAL:
            sound = audio.from_u16(audio.read_window(
                track.path(args.data_dir), 0, round(SECONDS * music.sample_rate)))
            pieces[f"real: {name}"] = sound, events(of_track(args.data_dir, track))
    draw(pieces, music.sample_rate, args.output_dir / "form.png")


if __name__ == "__main__":
    main()
