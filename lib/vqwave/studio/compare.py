"""The codec page: part of a recording, and how each codec of a folder reproduces it."""

import contextlib
from collections.abc import Iterator

import numpy as np

from ..dsp import notes
from ..errors import UserError
from ..io import audio
from ..report import judge
from .folders import FolderModels
from .messages import pack_message, while_working
from .pictures import PICTURE_BANDS, Spectrum, column
from .requests import CompareRequest, Recording


def compare(request: CompareRequest, recording: Recording, models: FolderModels, folder: str
            ) -> Iterator[bytes]:
    """Encode and decode part of a recording with every codec of a folder. Messages: {"comparison"},
    a {"sound"} for the original and for each codec, {"progress"}, {"end"}. The payload of a sound
    is its samples, its spectrogram and its codes (if any), frame by frame.
    """
    rate, width = models.music.sample_rate, column(models.music.chain.sizes)
    levels = _codec_levels(models)

    def sound(about: dict, samples: np.ndarray, codes: np.ndarray) -> bytes:
        picture = Spectrum(rate, width).push(samples, last=True)
        about |= {"column": width, "bands": PICTURE_BANDS, "lowest": notes.LOWEST_MIDI,
                  "columns": len(picture), "codes": codes.size}
        return pack_message({"sound": about}, audio.to_int16(samples).astype("<i2"), picture,
                            codes.astype("<u2"))

    original = audio.read_excerpt(recording.path, rate, request.start, request.seconds)
    yield pack_message({"comparison": {"rate": rate, "samples": len(original), "weights": folder,
                                "name": recording.name}})
    no_codes = np.empty(0)
    yield sound({"name": "original"}, original, no_codes)  # plays while the codecs are loaded
    yield pack_message({"progress": "Loading the codecs", "share": None})
    yield from while_working(lambda report: models.prepare((), tuple(levels), report))
    for i, level in enumerate(levels):
        yield pack_message({"progress": f"Through the codec of level {level} and back",
                     "share": i / len(levels)})
        codec, copies = models.music.codec(level), []
        about = {"name": str(level), "level": level,
                 "figures": judge.judge(codec, [original], copies=copies)}
        [(copy, codes)] = copies
        if codec.config.has_codes:
            shades = models.shades(level)
            about |= {"books": len(shades), "shades": shades}
        yield sound(about, copy, codes if codec.config.has_codes else no_codes)
    yield pack_message({"end": {}})


def _codec_levels(models: FolderModels) -> list[int]:
    """The levels whose codecs exist."""
    levels = []
    for level, name in models.music.chain.codecs.items():
        with contextlib.suppress(UserError):
            models.music.weight_set(name)
            levels.append(level)
    if not levels:
        raise UserError("There are no codecs here to listen to.")
    return levels
