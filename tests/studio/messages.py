"""Makes takes of a studio and reads the messages."""

import json
import struct

import numpy as np

from vqwave.studio import TakeRequest


def parse(data):
    """The messages in `data`, as (about, payload)."""
    messages, at = [], 0
    while at < len(data):
        text, payload = struct.unpack_from("<II", data, at)
        messages.append((json.loads(data[at + 8 : at + 8 + text]),
                         data[at + 8 + text : at + 8 + text + payload]))
        at += 8 + text + payload
    return messages


def read_messages(frames):
    return parse(b"".join(frames))


def join_blocks(blocks):
    """int16 samples of the messages of blocks."""
    return np.concatenate([np.frombuffer(payload, "<i2", about["samples"])
                           for about, payload in blocks])


def begin(studio, **settings):
    """(the frames of an endless take that has begun, its header)."""
    frames = studio.make_take(TakeRequest(**{"level": 128, "seconds": "endless", **settings}))
    while "take" not in (about := parse(next(frames))[0][0]):
        pass
    return frames, about["take"]


def record_of(studio, **settings):
    return read_messages(studio.make_take(TakeRequest(**settings)))[-1][0]["end"]


def refusal(studio, **settings):
    [*_, (about, _)] = read_messages(studio.make_take(TakeRequest(**settings)))
    assert list(about) == ["error"]
    return about["error"]


def count_busy(studio):
    return sum(take.busy for take in studio.takes.by_id.values())
