"""Sound from a stream of blocks: PyAudio pulls samples from a bounded queue that a producer thread
keeps filled.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .. import quiet
from ..errors import UserError
from ..io.audio import to_int16

PREBUFFER = 0.7
"""Seconds in the queue before the sound starts; doubled after each underrun, up to the whole queue.
"""

BUFFER = 4.0
"""Seconds that the queue holds at most."""



@dataclass(frozen=True)
class Latency:
    """How soon a control is heard, in seconds, and what that is paid with.

    block: of a block at most (None: as long as the chain's). A decoder and a context see what is
        around a block each time, so short blocks take more computing. ahead: see `Stream`.
    prebuffer, buffer: see `Feed`. period: samples that a device asks for at a time.
    """

    block: float | None = None
    ahead: float | None = None
    prebuffer: float = PREBUFFER
    buffer: float = BUFFER
    period: int = 1024

    def samples(self, chain) -> int:
        """Samples of a block of this chain: whole frames of its top level, one at least."""
        if self.block is None:
            return chain.block
        whole = max(1, int(self.block * chain.sample_rate) // chain.top)
        return min(chain.block, whole * chain.top)


LATENCIES = {"normal": Latency(),
             "low": Latency(block=0.0235, ahead=0.07, prebuffer=0.068, buffer=0.08, period=256)}
"""What `--latency` can be. With `low` three blocks wait to be heard, and one is made."""

FADE = 0.25
"""Seconds in which the sound fades out when it is stopped, or paused."""

INSTALL = ("pip install pyaudio (it needs PortAudio: apt-get install portaudio19-dev, "
           "brew install portaudio)")


@dataclass(frozen=True)
class PlayReport:
    """What came of playing: seconds heard, how often the sound ran dry, whether the listener
    stopped it.
    """

    seconds: float
    underruns: int
    stopped: bool


@dataclass(frozen=True)
class Status:
    """A moment of playing. `speed` is seconds of audio made per second of computing, lately."""

    seconds: float
    speed: float
    buffered: float
    underruns: int
    paused: bool


class Feed:
    """Blocks from an iterator, computed ahead in a thread, taken out in pieces of any length.

    `read` never waits: where samples are missing it gives silence and counts an underrun, then
    stays silent until the queue has filled again. Nothing is lost or repeated.
    """

    def __init__(self, blocks: Iterable[np.ndarray], sample_rate: int, buffer: float = BUFFER,
                 prebuffer: float = PREBUFFER, fade: float = FADE):
        self.sample_rate = sample_rate
        self.underruns = 0
        self.error: BaseException | None = None
        self._most = max(1, round(buffer * sample_rate))
        self._prebuffer = round(prebuffer * sample_rate)
        self._step = 1 / max(1, round(fade * sample_rate))
        self._blocks = iter(blocks)
        self._queue: collections.deque[np.ndarray] = collections.deque()
        self._changed = threading.Condition()  # guards the queue and what is said of it
        self._held = self._played = 0
        # (samples, seconds of computing) of the last blocks
        self._pace = collections.deque(maxlen=20)
        self._full = self._finished = self._ended = self._stopping = False
        self._filling = True
        self._gain = self._target = 1.0
        self._thread = threading.Thread(target=self._produce, name="vqwave-producer", daemon=True)

    def start(self):
        """Begin to compute."""
        self._thread.start()

    def close(self):
        """End the producer, after the block it is at."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def stop(self):
        """Fade out, then be at the end."""
        self._stopping = True
        self._target = 0.0

    def pause(self, paused: bool):
        """Fade to silence and hold, or go on where it was held."""
        if not self._stopping:
            self._target = 0.0 if paused else 1.0

    @property
    def paused(self) -> bool:
        return self._target == 0.0 and not self._stopping

    @property
    def ready(self) -> bool:
        """Whether there is enough to begin, or to go on after an underrun."""
        return self._finished or self._full or self._held >= self._prebuffer

    @property
    def status(self) -> Status:
        rate = self.sample_rate
        made, took = np.sum(list(self._pace) or [(0, 1)], axis=0)
        speed = made / rate / max(took, 1e-9)
        return Status(self._played / rate, speed, self._held / rate, self.underruns, self.paused)

    def read(self, count: int) -> tuple[np.ndarray, bool]:
        """The next `count` samples, float32, and whether there will be more."""
        out = np.zeros(count, np.float32)
        if self._gain == self._target == 0.0 or (self._filling and not self.ready):
            return out, not self._stopping
        with self._changed:
            self._filling = False
            got = 0
            while got < count and self._queue:
                block = self._queue.popleft()
                piece = block[: count - got]
                out[got : got + len(piece)] = piece
                got += len(piece)
                if len(piece) < len(block):
                    self._queue.appendleft(block[len(piece) :])
            self._held -= got
            self._played += got
            over = self._finished and not self._queue
            if got < count and not over:
                self.underruns += 1
                self._filling = True
                self._prebuffer = min(2 * self._prebuffer, self._most)
            self._changed.notify()
        if self._gain != self._target:
            self._ramp(out)
        silent = self._stopping and (self._gain == 0.0 or self._filling)
        return out, not (over or silent)

    def _ramp(self, out):
        """Move the gain towards its target, a step a sample."""
        way = self._step if self._target > self._gain else -self._step
        gains = np.clip(self._gain + way * np.arange(1, len(out) + 1),
                        *sorted((self._gain, self._target)))
        out *= gains.astype(np.float32)
        self._gain = float(gains[-1])

    def _room(self, block) -> bool:
        """Whether the queue takes a block; an empty one takes a block of any length."""
        return not self._held or self._held + len(block) <= self._most

    def _produce(self):
        try:
            while not self._ended:
                started = time.perf_counter()
                block = next(self._blocks, None)
                if block is None:
                    return
                block = np.asarray(block, np.float32)
                self._pace.append((len(block), time.perf_counter() - started))
                with self._changed:
                    self._full = not self._room(block)
                    while not self._ended and not self._room(block):
                        self._changed.wait()
                    self._full = False
                    self._queue.append(block)
                    self._held += len(block)
        except BaseException as e:
            self.error = e
        finally:
            self._finished = True


def play(blocks: Iterable[np.ndarray], sample_rate: int, *, device: int | str | None = None,
         status: Callable[[Status], None] | None = None, buffer: float = BUFFER,
         prebuffer: float = PREBUFFER,
         fade: float = FADE, period: int = 1024,
         keys: Callable[[str], None] | None = None) -> PlayReport:
    """Play float32 blocks [samples] in [-1, 1] until they end, q is pressed, or Ctrl-C; space
    pauses and resumes. `keys` is told of every other key; period: samples that the device asks for
    at a time.

    Computing runs in a thread of its own. `status` is called some times a second. Call it from the
    main thread. What `blocks` raises is raised after what it gave until then has been heard.

    Raises:
        UserError: PyAudio is missing, or the device is, or does not play.
    """
    pyaudio = _pyaudio()
    feed = Feed(blocks, sample_rate, buffer, prebuffer, fade)
    # ALSA and JACK write of their own on every probe, from C.
    with quiet.mute_stderr():
        pa = pyaudio.PyAudio()
    try:
        # The device first: that there is none should not be learned after minutes of exporting
        # models.
        with _open(pyaudio, pa, feed, device, period) as output:
            feed.start()
            try:
                stopped = _watch(output, feed, status, keys)
            finally:
                feed.close()
    finally:
        with quiet.mute_stderr():
            pa.terminate()
    if feed.error is not None:
        raise feed.error
    return PlayReport(feed.status.seconds, feed.underruns, stopped)


def _watch(output: _Output, feed: Feed, status, keys) -> bool:
    """Wait until the feed is at its end, minding the keys. Returns whether the listener ended it.
    """
    stopped = False
    with keyboard() as key:
        while True:
            try:
                if not output.started:
                    if stopped:
                        return True
                    # Not before there is sound: a running device would count silence as underruns.
                    if feed.ready:
                        output.start()
                elif not output.is_active():
                    return stopped
                pressed = key(0.05)
                if pressed == " ":
                    feed.pause(not feed.paused)
                elif pressed in ("q", "Q"):
                    stopped = True
                    feed.stop()
                elif pressed and keys:
                    keys(pressed)
                if status:
                    status(feed.status)
            except KeyboardInterrupt:
                if stopped:
                    return True  # pressed twice: at once
                stopped = True
                feed.stop()


class _Output:
    """A PyAudio stream that plays a feed as 16-bit samples."""

    def __init__(self, pyaudio, pa, feed, index: int, channels: int, period: int):
        self.started = False

        def callback(_, count, *__):
            audio, more = feed.read(count)
            # 16-bit, converted here: PortAudio would add dither to floats.
            data = np.repeat(to_int16(audio), channels).tobytes()
            return data, pyaudio.paContinue if more else pyaudio.paComplete

        self._stream = pa.open(
            rate=feed.sample_rate, channels=channels, format=pyaudio.paInt16,
            output=True, output_device_index=index,
            frames_per_buffer=period, start=False, stream_callback=callback,
        )

    def start(self):
        self.started = True
        with _device_errors():
            self._stream.start_stream()

    def is_active(self) -> bool:
        """Whether there is sound to come. Raises `UserError` where the device is gone."""
        with _device_errors():
            return self._stream.is_active()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            if self.started:
                self._stream.stop_stream()
        self._stream.close()


@contextlib.contextmanager
def _device_errors():
    try:
        yield
    except OSError as e:
        raise UserError(f"the device stopped playing: {e.args[-1]}") from e


def _open(pyaudio, pa, feed, device, period: int) -> _Output:
    found = outputs(pa)
    index = _choose(pa, found, device)
    rate = feed.sample_rate
    for channels in (1, 2):
        try:
            with quiet.mute_stderr():
                pa.is_format_supported(
                    rate, output_device=index, output_channels=channels,
                    output_format=pyaudio.paInt16
                )
                return _Output(pyaudio, pa, feed, index, channels, period)
        except (OSError, ValueError) as e:
            # Some hardware plays stereo only.
            reason = e
    why = reason.args[0] if isinstance(reason.args[0], str) else reason.args[-1]
    raise UserError(
        f"cannot play {rate} Hz on device {index} ({found[index]}): {why}; it may be busy. There "
        f"are: {_listing(found)}"
    )


def outputs(pa) -> dict[int, str]:
    """The devices that can play, by index."""
    infos = [pa.get_device_info_by_index(i) for i in range(pa.get_device_count())]
    return {int(d["index"]): str(d["name"]) for d in infos if d["maxOutputChannels"] > 0}


def _choose(pa, found: dict[int, str], device) -> int:
    if not found:
        raise UserError("there is no device to play on; --output FILE writes the sound instead")
    if device is None:
        try:
            return int(pa.get_default_output_device_info()["index"])
        except OSError as e:
            raise UserError(f"there is no default device; choose with --device: "
                            f"{_listing(found)}") from e
    text = str(device)
    if text.isdigit() and int(text) in found:
        return int(text)
    same = [i for i, name in found.items() if name.casefold() == text.casefold()]
    near = [i for i, name in found.items() if text.casefold() in name.casefold()]
    match = same[:1] or near
    if len(match) == 1:
        return match[0]
    problem = (f"device {text!r} could be several" if match
               else f"there is no device {text!r} to play on")
    raise UserError(f"{problem}; there are: {_listing({i: found[i] for i in match} or found)}")


def _listing(found: dict[int, str]) -> str:
    return ", ".join(f"{i} ({name})" for i, name in found.items())


def _pyaudio():
    try:
        import pyaudio
    except ImportError as e:
        raise UserError(f"playing needs PyAudio: {INSTALL}; or write a file with --output") from e
    return pyaudio


@contextlib.contextmanager
def keyboard() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key and returns it, or "". The terminal is
    restored on leaving.

    Where stdin is no terminal, or one that another program holds, it only waits.
    """
    fd, before = None, None
    with contextlib.suppress(ImportError, OSError, ValueError):
        import termios
        import tty

        # In the background a change of the terminal would stop the process.
        if os.isatty(sys.stdin.fileno()) and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp():
            fd = sys.stdin.fileno()
            before = termios.tcgetattr(fd)
            tty.setcbreak(fd)
    watching = before is not None

    def key(seconds: float) -> str:
        nonlocal watching
        if not watching:
            time.sleep(seconds)
        elif select.select([fd], [], [], seconds)[0]:
            pressed = os.read(fd, 1)
            watching = bool(pressed)  # nothing to read: the terminal was closed
            if pressed == b"\x1b":  # an arrow, say: several bytes, none of them a key of ours
                while select.select([fd], [], [], 0)[0] and os.read(fd, 1):
                    pass
                return ""
            return pressed.decode("ascii", "ignore")
        return ""

    try:
        yield key
    finally:
        if before is not None:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def status_line(level: int, status: Status) -> str:
    """One line for a person: what is played, how fast it is made, how much is in hand."""
    minutes, seconds = divmod(int(status.seconds), 60)
    runs = (f" · {status.underruns} underrun{'s' * (status.underruns != 1)}" if status.underruns
            else "")
    state = "paused" if status.paused else "space pauses, q quits"
    return (f"{minutes}:{seconds:02d} · level {level} · {status.speed:.1f} x real time · "
            f"buffer {status.buffered:.1f} s{runs} · {state}")
