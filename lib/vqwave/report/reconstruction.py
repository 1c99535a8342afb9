"""A recording through a codec and back: how near it comes, how fast."""

from __future__ import annotations

import time

import numpy as np

from ..dsp import metrics


def reconstruct(codec_engine, audio, books: int | None = None, label=None
                ) -> tuple[np.ndarray, dict]:
    """Audio through a codec and back, and how near it comes.

    Args:
        codec_engine: what `play.engine.load_codec` returns.
        audio: float32 [samples] at the codec's rate, of any length.
        books: how many of a residual codec's codebooks are kept; None: all.
        label: what the recording is, see `play.engine.CodecEngine`.

    Returns:
        The reconstruction, float32 [samples], and the figures: those of `distances` and
        `codebook_figures`, `bitrate_kbps`, `codes` (their number) where it makes codes,
        `latency_ms`, and `encode_speed`, `decode_speed` in seconds of audio per second of wall
        time, after a first run on a second of it that is not counted. Of a causal codec also
        `block_speed`, see there.

    Raises:
        UserError: the codec cannot do without its other codebooks, or has not so many; or it knows
            no such label.
    """
    config = codec_engine.config
    kept = config.check_books(books)
    audio = np.asarray(audio, np.float32)
    metrics.check_signal(audio, "audio")
    codec_engine.decode(codec_engine.encode(audio[None, : config.sample_rate], label), label)
    start = time.perf_counter()
    codes = codec_engine.encode(audio[None], label)[..., :kept]
    encoded = time.perf_counter()
    made = codec_engine.decode(codes, label)[0, : len(audio)]
    decoded = time.perf_counter()
    seconds = len(audio) / config.sample_rate
    in_blocks = {"block_speed": block_speed(codec_engine, audio)} if config.in_blocks else {}
    return made, {
        **in_blocks,
        **metrics.distances(audio, made, config.sample_rate),
        **figures_of_codes(config, codes),
        "latency_ms": 1000.0 * codec_engine.latency,
        "encode_speed": seconds / max(encoded - start, 1e-9),
        "decode_speed": seconds / max(decoded - encoded, 1e-9),
    }


def figures_of_codes(config, codes) -> dict:
    """What the frames of a codec cost, and how its codebooks are used.

    Args:
        codes: int [..., books], of all its books or the first of them.

    Returns:
        `metrics.codebook_figures`, `bitrate_kbps` and `codes` (their number); nothing of a codec
        whose frames are vectors.
    """
    if not config.has_codes:
        return {}
    return {**metrics.codebook_figures(metrics.histogram(codes, config.num_codes,
                                                          config.codebook_of)),
            "bitrate_kbps": metrics.bitrate(config) * codes.shape[-1] / config.books,
            "codes": int(codes.size)}


def block_speed(codec_engine, audio, seconds: float = 10.0) -> float:
    """Seconds of audio per second of wall time where it comes frame by frame, each encoded and
    decoded before the next: of the first `seconds` of float32 [samples], through a causal codec.
    """
    config = codec_engine.config
    count = max(1, int(min(len(audio), seconds * config.sample_rate)) // config.level)
    piece = np.zeros(count * config.level, np.float32)
    piece[: len(audio)] = audio[: len(piece)]
    blocks = codec_engine.in_blocks()
    blocks.decode(blocks.encode(np.zeros((1, config.level), np.float32)))
    start = time.perf_counter()
    for frame in piece.reshape(count, 1, config.level):
        blocks.decode(blocks.encode(frame))
    return len(piece) / config.sample_rate / max(time.perf_counter() - start, 1e-9)
