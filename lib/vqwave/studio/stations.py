"""Radio stations, without HTTP: endless pieces, their encoders, and the chunks that listeners read.
The stations of one folder of weights are the rows of one stream. Music is generated in real time,
once for all listeners, and only while somebody listens.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import av
import numpy as np

from ..errors import UserError
from ..io.audio import MP3_RATES, to_int16
from ..io.files import printable
from .names import piece_name

PORT = 8200
BITRATE = 64000
LISTENERS = 4000
"""The default for the most listeners; further listeners receive status 503."""
LEAD_SECONDS = 2.0
"""The music is generated this far ahead of real time, for the players' buffers."""
KEPT_SECONDS = 10.0
"""A listener that is further behind continues with live music."""
RETRY_SECONDS = 5.0
"""The pause before a failed stream is opened again."""


class Format(NamedTuple):
    """An encoding of FFmpeg that players can join at any chunk."""

    media_type: str
    encoder: str
    rates: tuple[int, ...]
    options: dict[str, str]


FORMATS = {
    "ogg": Format("audio/ogg", "libopus", (48000,), {"page_duration": "100000"}),
    "mp3": Format("audio/mpeg", "libmp3lame", MP3_RATES,
                  {"write_xing": "0", "id3v2_version": "0"}),
}


class StreamEncoder:
    """Encodes samples as they are generated. A player receives `header` first, then any chunk."""

    def __init__(self, kind: str, sample_rate: int, title: str):
        form = FORMATS[kind]
        rate = next((rate for rate in form.rates if rate >= sample_rate), form.rates[-1])
        self.sample_rate, self._position, self._bytes = sample_rate, 0, bytearray()
        self._container = av.open(self, "w", format=kind,
                                  options=form.options | {"flush_packets": "1"})
        self._container.metadata["title"] = title
        self._stream = self._container.add_stream(form.encoder, rate=rate, layout="mono")
        self._stream.bit_rate = BITRATE
        self._container.start_encoding()
        self.header = self._take()

    def write(self, data) -> int:
        """Called by FFmpeg with whole frames or pages."""
        self._bytes += data
        return len(data)

    def encode(self, samples: np.ndarray) -> bytes:
        """int16 [n] -> the chunk that is complete now, perhaps empty."""
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = self.sample_rate, self._position
        self._position += len(samples)
        self._container.mux(self._stream.encode(frame))
        return self._take()

    def _take(self) -> bytes:
        chunk = bytes(self._bytes)
        self._bytes.clear()
        return chunk


class Channel:
    """A station in one format: its latest chunks, which each listener reads at its own speed.

    Chunks are published and read in one event loop. first: the number of the oldest chunk.
    """

    def __init__(self, station: "Station", encoder: StreamEncoder):
        self.station, self.encoder = station, encoder
        self.listeners = self.first = 0
        self._chunks = deque[tuple[float, bytes]]()
        self._published = asyncio.Event()

    def publish(self, chunk: bytes):
        """Append a chunk, and drop those that are older than `KEPT_SECONDS`."""
        now = time.monotonic()
        if chunk:
            self._chunks.append((now, chunk))
        while self._chunks and now - self._chunks[0][0] > KEPT_SECONDS:
            self._chunks.popleft()
            self.first += 1
        self._published.set()
        self._published = asyncio.Event()

    def begin(self) -> int:
        """The number of a new listener's first chunk, at most `LEAD_SECONDS` old."""
        earliest = time.monotonic() - LEAD_SECONDS
        return self.first + sum(published <= earliest for published, _ in self._chunks)

    async def read(self, number: int) -> tuple[bytes, int]:
        """(the chunks from `number` on, at least one; the number of the next chunk). If the chunk
        is no longer kept, continues with live music.
        """
        if number < self.first:
            number = self.begin()
        while number >= self.first + len(self._chunks):
            await self._published.wait()
        chunks = list(self._chunks)[number - self.first :]
        return b"".join(chunk for _, chunk in chunks), number + len(chunks)


class Station:
    """One endless piece, row `row` of its group's stream. about: a description."""

    def __init__(self, group: "StationGroup", row: int, about: str):
        self.group, self.row, self.about = group, row, about
        self.number = str(group.first + row)
        self.name = piece_name(group.seed + group.first + row)
        self.title = f"{self.name} · {about}"
        self.channels = {kind: Channel(self, StreamEncoder(kind, group.sample_rate, self.title))
                         for kind in FORMATS}

    @property
    def listeners(self) -> int:
        return sum(channel.listeners for channel in self.channels.values())


class StationGroup:
    """The stations of one folder of weights, and the thread that generates their music.
    open_stream: opens a stream with a row for each station; called for the first listener, and
    after a failure. first: the number of the first station. report: called with a line when the
    stream fails.
    """

    def __init__(self, name: str, count: int, seed: int, open_stream: Callable, sample_rate: int, *,
                 first: int = 1, label: str | None = None,
                 report: Callable[[str], None] = lambda line: None):
        self.name, self.seed, self.first = name, seed, first
        self.sample_rate = sample_rate
        self.error = ""
        self.stations: list[Station] = []
        for row in range(count):
            about = [name, f"seed {seed}", f"piece {row + 1}" * (count > 1),
                     f"label {label}" * bool(label)]
            self.stations.append(Station(self, row, " · ".join(filter(None, about))))
        self._open_stream, self._report = open_stream, report
        self._loop: asyncio.AbstractEventLoop  # that of the listeners
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"vqwave-radio-{name}", daemon=True)
        self._thread.start()

    @property
    def listeners(self) -> int:
        return sum(station.listeners for station in self.stations)

    @contextlib.contextmanager
    def listening(self, channel: Channel):
        """Count a listener of the channel while the block runs. Call it in the event loop."""
        with self._changed:
            self._loop = asyncio.get_running_loop()
            channel.listeners += 1
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                channel.listeners -= 1

    def close(self):
        """End the thread after its current block."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self):
        while self._wait(self._needed):
            try:
                with self._open_stream() as stream:
                    self._play(stream)
            except Exception as e:  # report the error, and try again
                message = str(e) if isinstance(e, UserError) else f"{type(e).__name__}: {e}"
                previous, self.error = self.error, " ".join(message.split())
                if self.error != previous:
                    self._report(f"{printable(self.name)}: {self.error}")
                self._wait(lambda: False, RETRY_SECONDS)

    def _needed(self) -> bool:
        """Whether music is needed: for listeners, or to test a failed stream again, because a load
        balancer sends no listeners until then.
        """
        return bool(self.listeners or self.error)

    def _wait(self, ready: Callable, seconds: float | None = None) -> bool:
        """Wait until `ready()`, at most for `seconds`. Returns False when the group is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or ready(), seconds)
            return not self._closed

    def _play(self, stream):
        """Generate blocks in real time, `LEAD_SECONDS` ahead, while somebody listens."""
        due = None  # the time at which players need the next block
        while self._wait(self._needed):
            block = np.atleast_2d(next(stream))
            self._send(block)
            self.error = ""
            now = time.monotonic()
            earliest = now - LEAD_SECONDS  # before this, players' buffers are empty
            due = max(earliest, (earliest if due is None else due)
                      + block.shape[1] / self.sample_rate)
            if due > now:
                self._wait(lambda: not self.listeners, due - now)
            if not self.listeners:
                due = None

    def _send(self, block: np.ndarray):
        """Publish a block in all channels, also without listeners, to fill new players' buffers."""
        for station in self.stations:
            samples = to_int16(block[station.row])
            for channel in station.channels.values():
                self._loop.call_soon_threadsafe(channel.publish, channel.encoder.encode(samples))
