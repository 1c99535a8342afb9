"""The messages to the page, with their reports of progress and errors."""

import functools
import json
import queue
import struct
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from ..errors import UserError, not_installed
from ..io import files

Result = TypeVar("Result")


def pack_message(about: dict, *parts: np.ndarray) -> bytes:
    """One message: two little-endian uint32 lengths, `about` as JSON, the bytes of `parts`."""
    text = json.dumps(about).encode()
    payload = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    return struct.pack("<II", len(text), len(payload)) + text + payload


def with_errors(messages: Callable[..., Iterator[bytes]]) -> Callable[..., Iterator[bytes]]:
    """A method of the studio that yields messages. A `UserError` becomes the last message."""

    @functools.wraps(messages)
    def with_error(studio, request):
        try:
            yield from messages(studio, request)
        except UserError as e:
            yield pack_message({"error": studio.recordings.rename_files(str(e))})
        except ModuleNotFoundError as e:
            yield pack_message({"error": not_installed(e)})
        except OSError as e:
            yield pack_message({"error": f"The studio's disk failed: {files.reason(e)}."})

    return with_error


def while_working(work: Callable[..., Result]) -> Generator[bytes, None, Result]:
    """Call `work(report)` in a thread, and yield its reports as {"progress", "share"} messages:
    each new text, and the shares of a text at most every 0.15 s. Returns the result. After the
    iterator is closed, the next report raises `UserError` in the thread.
    """
    reports: queue.SimpleQueue[dict | None] = queue.SimpleQueue()  # None: the work has ended
    closed = threading.Event()
    last, due = None, 0.0

    def report(text, share=None):
        nonlocal last, due
        if closed.is_set():
            raise UserError("The browser has left.")
        if text != last or time.monotonic() >= due:
            last, due = text, time.monotonic() + 0.15
            reports.put({"progress": text, "share": share})

    with ThreadPoolExecutor(1, thread_name_prefix="vqwave-prepare") as pool:
        task = pool.submit(work, report)
        task.add_done_callback(lambda _: reports.put(None))
        try:
            while (message := reports.get()) is not None:
                yield pack_message(message)
        finally:
            closed.set()
        return task.result()
