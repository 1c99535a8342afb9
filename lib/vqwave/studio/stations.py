"""Radio without a word of any web: stations that play without end, what encodes them, and what
their listeners read.

The stations of one folder of weights are the rows of one stream, so that they are computed
together. Music is made while somebody listens, at the pace at which it is heard, and once for all
who do.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import av
import numpy as np

from ..errors import UserError
from ..io.audio import to_int16
from ..io.files import printable

LEAD = 2.0
"""Seconds of music that are made ahead of real time: what a player has in hand, to a block."""

KEPT = 10.0
"""Seconds that a listener may be behind before it is dropped to what is live."""

AGAIN = 5.0
"""Seconds after which a stream that failed is tried again."""


# --- encoders -------------------------------------------------------------------------------------


class Mp3:
    """16 bit samples -> frames of MP3, which a player can begin with at any of them."""

    name, media_type, header = "mp3", "audio/mpeg", b""

    def __init__(self, sample_rate: int, bitrate: int, title: str):
        context = av.CodecContext.create("libmp3lame", "w")
        # Others are resampled to the nearest that the format has above.
        rates = sorted(context.codec.audio_rates)
        context.sample_rate = next((r for r in rates if r >= sample_rate), rates[-1])
        context.layout, context.bit_rate = "mono", bitrate
        context.format = context.codec.audio_formats[0]
        self._context, self._frames = context, _Frames(sample_rate)

    def encode(self, samples: np.ndarray) -> list[bytes]:
        """int16 [n] -> what can be sent of it."""
        return [bytes(packet) for packet in self._context.encode(self._frames(samples))]


class Opus:
    """16 bit samples -> pages of Ogg with Opus; a player is given `header` first, then any page."""

    name, media_type = "ogg", "audio/ogg"

    def __init__(self, sample_rate: int, bitrate: int, title: str):
        self._sink, self._frames = _Sink(), _Frames(sample_rate)
        self._container = av.open(self._sink, "w", format="ogg",
                                  options={"page_duration": "100000", "flush_packets": "1"})
        self._container.metadata["title"] = title
        self._stream = self._container.add_stream("libopus", rate=48000, layout="mono")
        self._stream.bit_rate = bitrate
        self._container.start_encoding()
        self.header = b"".join(self._sink.pages())

    def encode(self, samples: np.ndarray) -> list[bytes]:
        """int16 [n] -> whole pages."""
        for packet in self._stream.encode(self._frames(samples)):
            self._container.mux(packet)
        pages = list(self._sink.pages())
        # What comes before the first page of sound belongs to the header.
        while pages and pages[0][28:36] in (b"OpusHead", b"OpusTags"):
            self.header += pages.pop(0)
        return pages


FORMATS = {one.name: one for one in (Opus, Mp3)}


class _Frames:
    """int16 [n] -> frames for an encoder, numbered on."""

    def __init__(self, sample_rate: int):
        self.sample_rate, self.position = sample_rate, 0

    def __call__(self, samples: np.ndarray) -> av.AudioFrame:
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = self.sample_rate, self.position
        self.position += len(samples)
        return frame


class _Sink:
    """A file that PyAV writes to, and whole Ogg pages are taken from."""

    def __init__(self):
        self._bytes = bytearray()

    def write(self, data) -> int:
        self._bytes += data
        return len(data)

    def pages(self) -> Iterator[bytes]:
        """A page is 27 bytes, the number of its segments in the last, their sizes, and they."""
        while len(self._bytes) >= 27:
            count = self._bytes[26]
            size = 27 + count + sum(self._bytes[27 : 27 + count])
            if len(self._bytes) < max(size, 27 + count):
                return
            yield bytes(self._bytes[:size])
            del self._bytes[:size]


# --- stations -------------------------------------------------------------------------------------


class Channel:
    """One station in one format: its last chunks, which listeners read at their own pace.

    Chunks are published and read in one event loop. `first` numbers the oldest that is kept.
    """

    def __init__(self, station: Station, kind: str):
        self.station, self.kind = station, kind
        self.listeners = self.joined = self.dropped = self.stalled = self.sent = 0
        self.behind = True  # whoever listens was given nothing of what was made before
        self.first, self._chunks = 0, deque[tuple[float, bytes]]()
        self._encoder: Mp3 | Opus | None = None
        self._news = asyncio.Event()

    @property
    def header(self) -> bytes:
        return self._encoder.header if self._encoder else b""

    def encode(self, samples: np.ndarray, sample_rate: int, bitrate: int) -> list[bytes]:
        """int16 [n], in the thread that makes the music."""
        if self._encoder is None:
            self._encoder = FORMATS[self.kind](sample_rate, bitrate, self.station.title)
        return self._encoder.encode(samples)

    def publish(self, chunks: Sequence[bytes]):
        """These come next. What is older than `KEPT` seconds goes."""
        now = time.monotonic()
        self._chunks.extend((now, chunk) for chunk in chunks)
        while self._chunks and now - self._chunks[0][0] > KEPT:
            self._chunks.popleft()
            self.first += 1
        self._news.set()
        self._news = asyncio.Event()

    def forget(self):
        """Nobody listens: whoever comes next begins with what is encoded then."""
        self.behind = True
        self.first += len(self._chunks)
        self._chunks.clear()

    def begin(self) -> int:
        """The number of the chunk that a new listener begins with: some that players can fill
        their buffers with, as far as there are.
        """
        now, place = time.monotonic(), len(self._chunks)
        while place and now - self._chunks[place - 1][0] < LEAD:
            place -= 1
        return self.first + place

    async def read(self, number: int) -> tuple[bytes, int]:
        """The chunks from `number` on, waiting for one, and the number after them; what is live
        where that one is no longer kept.
        """
        if number < self.first:
            self.dropped += 1
            number = self.begin()
        while number >= self.first + len(self._chunks):
            await self._news.wait()
        last = self.first + len(self._chunks)
        some = [self._chunks[i - self.first][1] for i in range(number, last)]
        return b"".join(some), last


class Station:
    """One endless piece: row `row` of its group's stream. `name` is what listeners ask for."""

    def __init__(self, name: str, group: Group, row: int):
        self.name, self.group, self.row = name, group, row
        self.bits: float | None = None
        self.channels = {kind: Channel(self, kind) for kind in FORMATS}

    @property
    def title(self) -> str:
        """What plays, in a line."""
        parts = [self.group.name, f"seed {self.group.seed}"]
        if self.group.stations[1:]:
            parts.append(f"piece {self.row + 1}")
        parts += [f"{name} {value}" for name, value in self.group.chosen.items()]
        return " · ".join(parts)

    @property
    def playing(self) -> str:
        """`title`, with bits per code so far where that is known."""
        known = self.bits is not None and np.isfinite(self.bits)
        return f"{self.title} · {self.bits:.2f} bits per code" if known else self.title

    @property
    def listeners(self) -> int:
        return sum(channel.listeners for channel in self.channels.values())


class Group:
    """Stations of one folder of weights, and the thread that makes their music.

    Args:
        name: of the weights, as people are told.
        open_stream: makes their stream, with a row for each; called when somebody listens first,
            and again after it failed.
        publish: called in that thread with (channel, chunks).
        say: told in a line what went wrong.
    """

    def __init__(self, name: str, count: int, seed: int, open_stream: Callable, *,
                 first: int = 1, chosen=None, bitrate: int = 64000,
                 publish: Callable = lambda channel, chunks: channel.publish(chunks),
                 say: Callable[[str], None] = lambda line: None):
        self.name, self.seed, self.chosen, self.bitrate = name, seed, dict(chosen or {}), bitrate
        self.stations: list[Station] = []
        self.stations += [Station(str(first + row), self, row) for row in range(count)]
        self.underruns, self.music, self.computing, self.error = 0, 0.0, 0.0, ""
        self._open, self.publish, self._say = open_stream, publish, say
        self._past = deque[np.ndarray]()  # the last blocks, of `LEAD` seconds
        self._wanted = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"vqwave-radio-{name}", daemon=True)
        self._thread.start()

    @property
    def listeners(self) -> int:
        return sum(station.listeners for station in self.stations)

    @contextlib.contextmanager
    def listening(self, channel: Channel):
        """Somebody reads the channel while this lasts."""
        with self._wanted:
            if not channel.listeners:
                channel.forget()
            channel.listeners += 1
            channel.joined += 1
            self._wanted.notify()
        try:
            yield
        finally:
            with self._wanted:
                channel.listeners -= 1

    def close(self):
        """End the thread, after the block it is at."""
        with self._wanted:
            self._ended = True
            self._wanted.notify()
        self._thread.join()

    def _run(self):
        while self._wait(self._needed):
            try:
                with self._open() as stream:
                    self._play(stream)
            except Exception as e:  # one line, and another try: a radio does not go off
                what = str(e) if isinstance(e, UserError) else f"{type(e).__name__}: {e}"
                before, self.error = self.error, " ".join(what.split())
                if self.error != before:
                    self._say(f"{printable(self.name)}: {self.error}")
                self._wait(lambda: False, AGAIN)

    def _needed(self) -> bool:
        """Somebody listens; or a block must show whether what failed is well again, since nobody
        may be sent here until it is.
        """
        return bool(self.listeners or self.error)

    def _wait(self, ready: Callable, seconds: float | None = None) -> bool:
        """Until `ready`, or so long. Returns False at the end."""
        with self._wanted:
            self._wanted.wait_for(lambda: self._ended or ready(), seconds)
            return not self._ended

    def _play(self, stream):
        """Blocks at the pace at which they are heard, `LEAD` ahead, until the end. Where nobody
        listens nothing is made.
        """
        rate, due = stream.sample_rate, None
        self._past.clear()
        while self._wait(self._needed):
            began = time.monotonic()
            block = np.atleast_2d(next(stream))
            self.computing += time.monotonic() - began
            self._send(stream, block, rate)
            self._past.append(block)
            while sum(x.shape[1] for x in self._past) - self._past[0].shape[1] >= LEAD * rate:
                self._past.popleft()
            self.error = ""
            self.music += block.shape[1] / rate
            now = time.monotonic()
            if due is None:  # the first of a while: players begin with it
                due = now - LEAD
            due += block.shape[1] / rate
            if now - due > LEAD:  # players have nothing left
                self.underruns += 1
                due = now - LEAD
            if due > now:
                self._wait(lambda: not self.listeners, due - now)
            if not self.listeners:
                due = None
                self._past.clear()

    def _send(self, stream, block, rate: int):
        """To who listens; what was made just before too, where a channel has its first listener
        while the group plays already.
        """
        bits = np.atleast_1d(stream.bits["all"]) if stream.log_probs is not None else None
        for station in self.stations:
            station.bits = None if bits is None else float(bits[station.row])
            samples = None
            for channel in station.channels.values():
                if channel.listeners:
                    if channel.behind:
                        channel.behind = False
                        for past in self._past:
                            self.publish(channel, channel.encode(to_int16(past[station.row]), rate,
                                                                 self.bitrate))
                    samples = to_int16(block[station.row]) if samples is None else samples
                    self.publish(channel, channel.encode(samples, rate, self.bitrate))


class Icy:
    """Bytes with titles in between, as SHOUTcast players ask for: after every `EVERY` bytes one
    that says how long what follows is, in sixteens, and the title where it has changed.
    """

    EVERY = 16000

    def __init__(self):
        self._left, self._told = self.EVERY, None

    def __call__(self, data: bytes, title: str) -> bytes:
        made = bytearray()
        while len(data) >= self._left:
            made += data[: self._left]
            data, self._left = data[self._left :], self.EVERY
            made += self._title(title)
        self._left -= len(data)
        return bytes(made + data)

    def _title(self, title: str) -> bytes:
        if title == self._told:
            return b"\0"
        self._told = title
        text = f"StreamTitle='{title.replace(chr(39), chr(8217))}';".encode()[: 255 * 16]
        count = -(-len(text) // 16)
        return struct.pack("B", count) + text.ljust(16 * count, b"\0")
