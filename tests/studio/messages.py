"""Reads the messages of a studio."""

import json
import struct

import numpy as np


def parse_frames(data):
    """The messages in `data`, as (about, payload)."""
    messages, at = [], 0
    while at < len(data):
        text, payload = struct.unpack_from("<II", data, at)
        messages.append((json.loads(data[at + 8 : at + 8 + text]),
                         data[at + 8 + text : at + 8 + text + payload]))
        at += 8 + text + payload
    return messages


def unframed(frames):
    return parse_frames(b"".join(frames))


def sound(blocks):
    return np.concatenate([np.frombuffer(payload, "<i2", about["samples"])
                           for about, payload in blocks])
