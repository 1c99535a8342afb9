"""The messages to the page, with their reports of progress and errors."""

import functools
import json
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
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
    def with_error(studio, *request):
        try:
            yield from messages(studio, *request)
        except UserError as e:
            yield pack_message({"error": studio.recordings.rename_files(str(e))})
        except ModuleNotFoundError as e:
            yield pack_message({"error": not_installed(e)})
        except OSError as e:
            yield pack_message({"error": f"The studio's disk failed: {files.reason(e)}."})

    return with_error


def while_working(work: Callable[..., Result]) -> Generator[bytes, None, Result]:
    """Call `work(report)` in a thread, and yield its reports as {"progress", "share"} messages
    every 0.15 s: each text, with its latest share. Returns the result. After the iterator is
    closed, the next report raises `UserError` in the thread.
    """
    unsent: OrderedDict[str, float | None] = OrderedDict()  # the share of each text
    closed = threading.Event()

    def report(text, share=None):
        if closed.is_set():
            raise UserError("The browser has left.")
        unsent[text] = share

    with ThreadPoolExecutor(1, thread_name_prefix="vqwave-prepare") as pool:
        task, ended = pool.submit(work, report), False
        try:
            while not ended:
                ended = bool(wait([task], 0.15).done)
                while unsent:
                    text, share = unsent.popitem(last=False)
                    yield pack_message({"progress": text, "share": share})
        finally:
            closed.set()
        return task.result()
