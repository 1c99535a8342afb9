"""The messages that the page reads: frames of a JSON object and bytes, and how they report progress
and errors.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np

from ..errors import UserError
from ..io import files


def frame(about: dict, *parts: np.ndarray) -> bytes:
    """One message: two little-endian uint32 lengths, `about` as JSON, the bytes of `parts`."""
    text = json.dumps(about).encode()
    payload = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    return struct.pack("<II", len(text), len(payload)) + text + payload


def with_errors(messages: Iterable[bytes], rename: Callable[[str], str]) -> Iterator[bytes]:
    """The messages; a user's error, passed through `rename`, becomes the last one."""
    try:
        yield from messages
    except UserError as e:
        yield frame({"error": rename(str(e))})
    except OSError as e:
        yield frame({"error": f"The studio's disk failed: {files.reason(e)}."})


def while_working(work: Callable) -> Iterator[bytes]:
    """Call `work(report)` in a thread; a {"progress", "share"} message for each of its reports.

    When nobody reads the messages any more, the next report raises `UserError` in the thread.
    """
    latest: list = [None]
    abandoned = threading.Event()

    def report(words, share=None):
        if abandoned.is_set():
            raise UserError("nobody waits for this any more")
        latest[0] = {"progress": words, "share": share}

    with ThreadPoolExecutor(1, thread_name_prefix="vqwave-prepare") as pool:
        task = pool.submit(work, report)
        shown = None
        try:
            while not wait([task], 0.15).done:
                if latest[0] is not shown:
                    shown = latest[0]
                    yield frame(shown)
        finally:
            abandoned.set()
        task.result()
