"""Encodes and decodes long signals in constant memory, with the results of the whole signal. Each
window is computed with a halo, the receptive field on either side, and only the middle is kept.
"""

from collections.abc import Iterable, Iterator

import numpy as np

WINDOW_SAMPLES = 1 << 18


def encode(run, audio: np.ndarray, level: int, halo: int, window: int | None = None) -> np.ndarray:
    """audio float32 [batch, T] -> codes int32 [batch, ceil(T / level), books]. The last frame is
    padded with zeros.

    run: audio float32 [batch, n·level] -> codes int32 [batch, n, books]. level: samples per frame.
    halo: the receptive field of a frame on either side, in frames. window: frames kept per run.
    """
    codes = list(encode_blocks(run, [audio], level, halo, window))
    return (np.concatenate(codes, axis=1) if codes
            else np.asarray(run(np.zeros((len(audio), level), np.float32)))[:, :0])


def encode_blocks(run, blocks: Iterable[np.ndarray], level: int, halo: int,
                  window: int | None = None) -> Iterator[np.ndarray]:
    """`encode` for a signal in blocks of any lengths, float32 [batch, n]. Yields int32 [batch,
    frames, books], and needs the memory of one window.
    """
    size = window or max(WINDOW_SAMPLES // level, 4 * halo)
    pending, held = [], 0
    left = start = 0  # the first frame in memory, and the first frame that is not yet encoded

    def encode_until(audio, stop, right):
        """Encode frames start … stop − 1, with the samples of frames left … right − 1."""
        piece = audio[:, : (right - left) * level]
        piece = np.pad(piece, ((0, 0), (0, (right - left) * level - piece.shape[1])))
        return np.asarray(run(piece))[:, start - left : stop - left]

    for block in blocks:
        pending.append(np.asarray(block, np.float32))
        held += block.shape[1]
        while held >= (start + size + halo - left) * level:
            audio = np.concatenate(pending, axis=1)
            yield encode_until(audio, start + size, start + size + halo)
            start += size
            drop = max(0, start - halo) - left
            pending, held, left = [audio[:, drop * level :]], held - drop * level, left + drop
    if not held:
        return
    audio = np.concatenate(pending, axis=1)
    count = left - (-held // level)
    while start < count:
        stop = min(start + size, count)
        yield encode_until(audio, stop, min(count, stop + halo))
        drop = max(0, stop - halo) - left
        audio, left, start = audio[:, drop * level :], left + drop, stop


def decode(run, codes: np.ndarray, level: int, halo: int, window: int | None = None,
           past: int = 0) -> np.ndarray:
    """codes int32 [batch, N, books], or vectors float32 [batch, N, dim] -> audio float32 [batch,
    N·level].

    run: (codes int32 [batch, n, books], position of the first frame) -> audio float32 [batch,
    n·level]. halo, window: as in `encode`. past: further frames before the halo that the decoder
    needs.
    """
    codes = np.asarray(codes)
    batch, count = codes.shape[:2]
    window = max(1, window or WINDOW_SAMPLES // level)
    audio = np.empty((batch, count * level), np.float32)
    for start in range(0, count, window):
        stop = min(start + window, count)
        left, right = max(0, start - halo - past), min(count, stop + halo)
        inside = slice((start - left) * level, (stop - left) * level)
        samples = np.asarray(run(codes[:, left:right], left))
        audio[:, start * level : stop * level] = samples[:, inside]
    return audio
