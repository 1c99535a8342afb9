"""Blocks of sound to the speakers: a thread computes ahead into a bounded queue, PyAudio pulls."""

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

from .. import stderr
from ..errors import UserError
from ..io.audio import to_int16

PREBUFFER = 0.7
"""Seconds in the queue before the sound starts; doubled after each underrun, up to the whole queue.
"""

BUFFER = 4.0
"""Seconds that the queue holds at most."""

FADE = 0.25
"""Seconds in which the sound fades out when it is stopped or paused."""

INSTALL = ("pip install pyaudio (it needs PortAudio: apt-get install portaudio19-dev, "
           "brew install portaudio)")


@dataclass(frozen=True)
class Latency:
    """How soon a control is heard, in seconds.

    block: length of a block at most (None: the chain's); short blocks cost more, since a decoder
        and a context see what is around each block. ahead: see `Stream`. prebuffer, buffer: see
        `Feed`. period: samples that a device asks for at a time.
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
        frames = max(1, int(self.block * chain.sample_rate) // chain.top)
        return min(chain.block, frames * chain.top)


LATENCIES = {"normal": Latency(),
             "low": Latency(block=0.0235, ahead=0.07, prebuffer=0.068, buffer=0.08, period=256)}
"""What `--latency` can be. With `low` three blocks wait to be heard while one is computed."""


@dataclass(frozen=True)
class PlayReport:
    """Seconds heard, how often the sound ran dry, and whether the listener stopped it."""

    seconds: float
    underruns: int
    stopped: bool


@dataclass(frozen=True)
class Status:
    """A moment of playing. speed: real-time factor of the last blocks; buffered: seconds."""

    seconds: float
    speed: float
    buffered: float
    underruns: int
    paused: bool


class Feed:
    """Blocks from an iterator, computed ahead in a thread, read in pieces of any length.

    `read` never waits: where samples are missing it returns silence and counts an underrun, then
    stays silent until the queue has filled again. No sample is lost or repeated.
    """

    def __init__(self, blocks: Iterable[np.ndarray], sample_rate: int, buffer: float = BUFFER,
                 prebuffer: float = PREBUFFER, fade: float = FADE):
        self.sample_rate = sample_rate
        self.underruns = 0
        self.error: BaseException | None = None
        self._capacity = max(1, round(buffer * sample_rate))
        self._prebuffer = round(prebuffer * sample_rate)
        self._step = 1 / max(1, round(fade * sample_rate))
        self._blocks = iter(blocks)
        self._queue: collections.deque[np.ndarray] = collections.deque()
        self._changed = threading.Condition()  # guards the queue and its counts
        self._held = self._played = 0  # samples
        self._pace = collections.deque(maxlen=20)  # (samples, seconds of computing) of blocks
        self._full = self._finished = self._ended = self._stopping = False
        self._filling = True
        self._gain = self._target = 1.0
        self._thread = threading.Thread(target=self._produce, name="vqwave-producer", daemon=True)

    def start(self):
        """Begin to compute."""
        self._thread.start()

    def close(self):
        """End the thread, after the current block."""
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
        """Fade to silence and hold, or continue."""
        if not self._stopping:
            self._target = 0.0 if paused else 1.0

    @property
    def paused(self) -> bool:
        return self._target == 0.0 and not self._stopping

    @property
    def ready(self) -> bool:
        """Whether there is enough to begin, or to continue after an underrun."""
        return self._finished or self._full or self._held >= self._prebuffer

    @property
    def status(self) -> Status:
        samples, seconds = np.sum(list(self._pace) or [(0, 1)], axis=0)
        return Status(self._played / self.sample_rate,
                      samples / self.sample_rate / max(seconds, 1e-9),
                      self._held / self.sample_rate, self.underruns, self.paused)

    def read(self, count: int) -> tuple[np.ndarray, bool]:
        """The next `count` samples, float32, and whether more will follow."""
        out = np.zeros(count, np.float32)
        if self._gain == self._target == 0.0 or (self._filling and not self.ready):
            return out, not self._stopping
        with self._changed:
            self._filling = False
            done = self._take(out)
            at_end = self._finished and not self._queue
            if done < count and not at_end:
                self.underruns += 1
                self._filling = True
                self._prebuffer = min(2 * self._prebuffer, self._capacity)
            self._changed.notify()
        if self._gain != self._target:
            self._ramp(out)
        silent = self._stopping and (self._gain == 0.0 or self._filling)
        return out, not (at_end or silent)

    def _take(self, out: np.ndarray) -> int:
        """Fill `out` from the queue; returns how many samples there were."""
        done = 0
        while done < len(out) and self._queue:
            block = self._queue.popleft()
            piece = block[: len(out) - done]
            out[done : done + len(piece)] = piece
            done += len(piece)
            if len(piece) < len(block):
                self._queue.appendleft(block[len(piece) :])
        self._held -= done
        self._played += done
        return done

    def _ramp(self, out):
        """Move the gain towards its target, a step a sample."""
        step = self._step if self._target > self._gain else -self._step
        gains = np.clip(self._gain + step * np.arange(1, len(out) + 1),
                        *sorted((self._gain, self._target)))
        out *= gains.astype(np.float32)
        self._gain = float(gains[-1])

    def _fits(self, block) -> bool:
        """Whether the queue takes a block; an empty queue takes a block of any length."""
        return not self._held or self._held + len(block) <= self._capacity

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
                    self._full = not self._fits(block)
                    while not self._ended and not self._fits(block):
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
         prebuffer: float = PREBUFFER, fade: float = FADE, period: int = 1024,
         keys: Callable[[str], None] | None = None) -> PlayReport:
    """Play float32 blocks [samples] in [-1, 1] until they end, q is pressed, or Ctrl-C; space
    pauses and resumes. Call it from the main thread.

    Args:
        status: called some times a second.
        keys: called with every other key.
        period: samples that the device asks for at a time.

    Raises:
        UserError: PyAudio or the device is missing, or the device does not play.
        What `blocks` raises, after the sound before it was heard.
    """
    pyaudio = _pyaudio()
    feed = Feed(blocks, sample_rate, buffer, prebuffer, fade)
    with stderr.mute():  # ALSA and JACK print on every probe
        pa = pyaudio.PyAudio()
    try:
        # A missing device is reported before models are exported for minutes.
        with _open(pyaudio, pa, feed, device, period) as output:
            feed.start()
            try:
                stopped = _watch(output, feed, status, keys)
            finally:
                feed.close()
    finally:
        with stderr.mute():
            pa.terminate()
    if feed.error is not None:
        raise feed.error
    return PlayReport(feed.status.seconds, feed.underruns, stopped)


def _watch(output: _Output, feed: Feed, status, keys) -> bool:
    """Wait for the end, and react to keys. Returns whether the listener stopped the sound."""
    stopped = False
    with keyboard() as read_key:
        while True:
            try:
                if not output.started:
                    if stopped:
                        return True
                    if feed.ready:  # earlier, silence would count as underruns
                        output.start()
                elif not output.is_active():
                    return stopped
                key = read_key(0.05)
                if key == " ":
                    feed.pause(not feed.paused)
                elif key in ("q", "Q"):
                    stopped = True
                    feed.stop()
                elif key and keys:
                    keys(key)
                if status:
                    status(feed.status)
            except KeyboardInterrupt:
                if stopped:  # pressed twice
                    return True
                stopped = True
                feed.stop()


class _Output:
    """A PyAudio stream that plays a feed as 16-bit samples."""

    def __init__(self, pyaudio, pa, feed, index: int, channels: int, period: int):
        self.started = False

        def callback(_, count, *__):
            audio, more = feed.read(count)
            # PortAudio would add dither to floats.
            data = np.repeat(to_int16(audio), channels).tobytes()
            return data, pyaudio.paContinue if more else pyaudio.paComplete

        self._stream = pa.open(rate=feed.sample_rate, channels=channels, format=pyaudio.paInt16,
                               output=True, output_device_index=index, frames_per_buffer=period,
                               start=False, stream_callback=callback)

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
    devices = outputs(pa)
    index = _choose(pa, devices, device)
    for channels in (1, 2):  # some hardware plays stereo only
        try:
            with stderr.mute():
                pa.is_format_supported(feed.sample_rate, output_device=index,
                                       output_channels=channels, output_format=pyaudio.paInt16)
                return _Output(pyaudio, pa, feed, index, channels, period)
        except (OSError, ValueError) as e:
            error = e
    reason = error.args[0] if isinstance(error.args[0], str) else error.args[-1]
    raise UserError(f"cannot play {feed.sample_rate} Hz on device {index} ({devices[index]}): "
                    f"{reason}; it may be busy. There are: {_listing(devices)}")


def outputs(pa) -> dict[int, str]:
    """The devices that can play, by index."""
    infos = [pa.get_device_info_by_index(i) for i in range(pa.get_device_count())]
    return {int(d["index"]): str(d["name"]) for d in infos if d["maxOutputChannels"] > 0}


def _choose(pa, devices: dict[int, str], device) -> int:
    """The device of this index, name or part of a name; None: the default device."""
    if not devices:
        raise UserError("there is no device to play on; --output FILE writes the sound instead")
    if device is None:
        try:
            return int(pa.get_default_output_device_info()["index"])
        except OSError as e:
            raise UserError(f"there is no default device; choose with --device: "
                            f"{_listing(devices)}") from e
    text = str(device)
    if text.isdigit() and int(text) in devices:
        return int(text)
    exact = [i for i, name in devices.items() if name.casefold() == text.casefold()]
    near = [i for i, name in devices.items() if text.casefold() in name.casefold()]
    matches = exact[:1] or near
    if len(matches) == 1:
        return matches[0]
    problem = (f"device {text!r} could be several" if matches
               else f"there is no device {text!r} to play on")
    raise UserError(f"{problem}; there are: "
                    f"{_listing({i: devices[i] for i in matches} or devices)}")


def _listing(devices: dict[int, str]) -> str:
    return ", ".join(f"{i} ({name})" for i, name in devices.items())


def _pyaudio():
    try:
        import pyaudio
    except ImportError as e:
        raise UserError(f"playing needs PyAudio: {INSTALL}; or write a file with --output") from e
    return pyaudio


@contextlib.contextmanager
def keyboard() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key and returns it, or "". The terminal is
    restored on leaving. Where stdin is no terminal, or another program's, it only waits.
    """
    fd, before = None, None
    with contextlib.suppress(ImportError, OSError, ValueError):
        import termios
        import tty

        # A background process that changes its terminal is stopped.
        if os.isatty(sys.stdin.fileno()) and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp():
            fd = sys.stdin.fileno()
            before = termios.tcgetattr(fd)
            tty.setcbreak(fd)
    is_open = before is not None

    def read_key(seconds: float) -> str:
        nonlocal is_open
        if not is_open:
            time.sleep(seconds)
        elif select.select([fd], [], [], seconds)[0]:
            pressed = os.read(fd, 1)
            is_open = bool(pressed)  # nothing to read: the terminal was closed
            if pressed == b"\x1b":  # an arrow, say, is several bytes: drop them
                while select.select([fd], [], [], 0)[0] and os.read(fd, 1):
                    pass
                return ""
            return pressed.decode("ascii", "ignore")
        return ""

    try:
        yield read_key
    finally:
        if before is not None:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def status_line(level: int, status: Status) -> str:
    """One line for a person: what plays, how fast it is computed, how much is buffered."""
    minutes, seconds = divmod(int(status.seconds), 60)
    underruns = (f" · {status.underruns} underrun{'s' * (status.underruns != 1)}"
                 if status.underruns else "")
    state = "paused" if status.paused else "space pauses, q quits"
    return (f"{minutes}:{seconds:02d} · level {level} · {status.speed:.1f} x real time · "
            f"buffer {status.buffered:.1f} s{underruns} · {state}")
