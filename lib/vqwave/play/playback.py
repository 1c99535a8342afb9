"""Plays blocks of sound: a thread computes ahead into a bounded queue, which PyAudio reads."""

import collections
import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from .. import stderr
from ..errors import UserError
from ..io.audio import to_int16

PREBUFFER = 0.7
"""Seconds in the queue before the sound starts; doubled after each underrun, up to `BUFFER`."""
BUFFER = 4.0
"""The most seconds in the queue."""
FADE = 0.25
"""Seconds of the fade-out at a stop or a pause."""
INSTALL_PYAUDIO = ("sudo apt-get install portaudio19-dev (macOS: brew install portaudio), then pip "
                   "install pyaudio")


@dataclass(frozen=True)
class Latency:
    """The settings that decide how soon a change is heard, in seconds. block: the longest block
    (None: the chain's); short blocks cost more. ahead, runs_ahead: see `Stream`. prebuffer, buffer:
    see `PREBUFFER` and `BUFFER`. period: samples that a device reads at a time.
    """

    block: float | None = None
    ahead: float | None = None
    prebuffer: float = PREBUFFER
    buffer: float = BUFFER
    period: int = 1024
    runs_ahead: bool = True

    def samples(self, chain) -> int:
        """Samples of a block of this chain: whole frames of its top level, at least one."""
        if self.block is None:
            return chain.block
        frames = max(1, int(self.block * chain.sample_rate) // chain.top)
        return min(chain.block, frames * chain.top)


LATENCIES = {"normal": Latency(),
             "live": Latency(block=0.0465, ahead=0.07, prebuffer=0.15, buffer=0.2, period=512,
                             runs_ahead=False),
             "page": Latency(block=0.14, ahead=0.07, prebuffer=0.3, buffer=0.6, runs_ahead=False),
             "low": Latency(block=0.0235, ahead=0.07, prebuffer=0.068, buffer=0.08, period=256)}
"""The values of `--latency`. With `low`, three blocks are buffered while the next is computed.
The studio plays `live`, and the page without a server, which has one thread, `page`; the browser
adapts the buffer.
"""


@dataclass(frozen=True)
class Status:
    """The status of playing. seconds: heard so far; speed: real-time factor of the last blocks;
    buffered: seconds in the queue; underruns: how often the queue was empty.
    """

    seconds: float
    speed: float
    buffered: float
    underruns: int
    paused: bool


class Feed:
    """A queue of blocks that a thread computes ahead, read in pieces of any length. `read` never
    waits. If samples are missing, it counts an underrun and returns silence until the queue has
    filled again. No sample is lost or repeated.
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
        self._queue = np.zeros(0, np.float32)
        self._changed = threading.Condition()  # guards the queue
        self._played = 0  # samples
        self._pace = collections.deque(maxlen=20)  # (samples, seconds of computing) of blocks
        self._full = self._exhausted = self._closed = self._stopping = False
        self._filling = True
        self._gain = self._target = 1.0
        self._thread = threading.Thread(target=self._produce, name="vqwave-producer", daemon=True)

    def start(self):
        """Start the thread."""
        self._thread.start()

    def close(self):
        """End the thread, after the current block."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def stop(self):
        """Fade out, then end."""
        self._stopping = True
        self._target = 0.0

    def pause(self, paused: bool):
        """Fade to silence and wait, or continue."""
        if not self._stopping:
            self._target = 0.0 if paused else 1.0

    @property
    def ready(self) -> bool:
        """Whether the queue holds enough to start, or to continue after an underrun."""
        return self._exhausted or self._full or len(self._queue) >= self._prebuffer

    @property
    def status(self) -> Status:
        samples, seconds = np.sum(list(self._pace) or [(0, 1)], axis=0)
        return Status(self._played / self.sample_rate,
                      samples / self.sample_rate / max(seconds, 1e-9),
                      len(self._queue) / self.sample_rate, self.underruns,
                      self._target == 0.0 and not self._stopping)

    def read(self, count: int) -> tuple[np.ndarray, bool]:
        """The next `count` samples, float32, and whether more will follow."""
        audio = np.zeros(count, np.float32)
        if self._gain == self._target == 0.0 or (self._filling and not self.ready):
            return audio, not self._stopping
        with self._changed:
            piece, self._queue = self._queue[:count], self._queue[count:]
            audio[: len(piece)] = piece
            self._played += len(piece)
            at_end = self._exhausted and not len(self._queue)
            self._filling = len(piece) < count and not at_end
            if self._filling:
                self.underruns += 1
                self._prebuffer = min(2 * self._prebuffer, self._capacity)
            self._changed.notify()
        if self._gain != self._target:
            self._ramp(audio)
        silent = self._stopping and (self._gain == 0.0 or self._filling)
        return audio, not (at_end or silent)

    def _ramp(self, audio):
        """Move the gain towards its target, one step per sample."""
        step = self._step if self._target > self._gain else -self._step
        gains = np.clip(self._gain + step * np.arange(1, len(audio) + 1),
                        *sorted((self._gain, self._target)))
        audio *= gains.astype(np.float32)
        self._gain = float(gains[-1])

    def _fits(self, block) -> bool:
        """Whether the queue takes a block; an empty queue takes a block of any length."""
        return not len(self._queue) or len(self._queue) + len(block) <= self._capacity

    def _produce(self):
        try:
            started = time.perf_counter()
            for block in self._blocks:
                self._pace.append((len(block), time.perf_counter() - started))
                with self._changed:
                    self._full = not self._fits(block)
                    self._changed.wait_for(lambda block=block: self._closed or self._fits(block))
                    self._full = False
                    self._queue = np.concatenate([self._queue, np.asarray(block, np.float32)])
                if self._closed:
                    return
                started = time.perf_counter()
        except BaseException as e:
            self.error = e
        finally:
            self._exhausted = True


def play(blocks: Iterable[np.ndarray], sample_rate: int, latency: Latency = LATENCIES["normal"], *,
         device: int | str | None = None, show: Callable[[Status], None] | None = None,
         press: Callable[[str], None] | None = None) -> Status:
    """Play float32 blocks [samples] in [-1, 1] until their end, the key q, or Ctrl-C. Space pauses
    and resumes. Must be called from the main thread. Returns the status at the end.

    device: index, name or part of the name. show: called with the status, up to 20 times a second.
    press: called with all other keys. Raises `UserError` if PyAudio or the device is missing, or
    the device does not play. An error of `blocks` is raised after the blocks before it have played.
    """
    feed = Feed(blocks, sample_rate, latency.buffer, latency.prebuffer)
    with _portaudio() as pa:
        output = _open(pa, feed, device, latency.period)
        feed.start()
        try:
            _watch(output, feed, show, press)
        finally:
            feed.close()
            with contextlib.suppress(OSError):
                output.stop_stream()
            output.close()
    if feed.error is not None:
        raise feed.error
    return feed.status


@contextlib.contextmanager
def _portaudio() -> Iterator:
    try:
        import pyaudio
    except ImportError as e:
        raise UserError(f"playing needs PyAudio: {INSTALL_PYAUDIO}; or write a file with "
                        "`vqwave generate --output FILE`") from e
    with stderr.mute():  # ALSA and JACK print on every probe
        pa = pyaudio.PyAudio()
    try:
        yield pa
    finally:
        with stderr.mute():
            pa.terminate()


def check_device(device: int | str | None):
    """Raises `UserError` if there is no such device, before models are loaded in vain."""
    with _portaudio() as pa:
        _find_device(pa, device)


def _find_device(pa, device) -> tuple[int | None, dict[int, str]]:
    """The index of a device, None for PortAudio's default, and the names of all devices."""
    infos = [pa.get_device_info_by_index(i) for i in range(pa.get_device_count())]
    names = {int(x["index"]): str(x["name"]) for x in infos if x["maxOutputChannels"] > 0}
    if not names:
        raise UserError("there is no audio device to play on; `vqwave generate --output FILE` "
                        "writes a file instead")
    text = str(device)
    index = (None if device is None else int(text) if text.isdigit() and int(text) in names
             else find_by_name(text, names, "device"))
    return index, names


def _watch(output, feed: Feed, show, press):
    """Wait for the end, and handle keys."""
    started = stopped = False
    with keyboard() as read_key:
        while True:
            try:
                try:
                    if started and not output.is_active() or stopped and not started:
                        return
                    if feed.ready and not started:  # an earlier start would count underruns
                        output.start_stream()
                        started = True
                except OSError as e:
                    raise UserError(f"the device stopped playing: {e.args[-1]}") from e
                key = read_key(0.05)
                if key == " ":
                    feed.pause(not feed.status.paused)
                elif key in ("q", "Q"):
                    stopped = True
                    feed.stop()
                elif key and press:
                    press(key)
                if show:
                    show(feed.status)
            except KeyboardInterrupt:
                if stopped:  # pressed twice
                    return
                stopped = True
                feed.stop()


def _open(pa, feed: Feed, device, period: int):
    """A PyAudio stream that plays a feed in 16 bits. device: see `_find_device`."""
    import pyaudio

    index, names = _find_device(pa, device)
    for channels in (1, 2):  # some hardware plays stereo only

        def callback(_, count, *__, channels=channels):
            audio, more = feed.read(count)
            # PortAudio would add dither to floats.
            data = np.repeat(to_int16(audio), channels).tobytes()
            return data, pyaudio.paContinue if more else pyaudio.paComplete

        try:
            with stderr.mute():
                return pa.open(rate=feed.sample_rate, channels=channels, format=pyaudio.paInt16,
                               output=True, output_device_index=index, frames_per_buffer=period,
                               start=False, stream_callback=callback)
        except (OSError, ValueError) as e:
            error = e
    reason = error.args[0] if isinstance(error.args[0], str) else error.args[-1]
    raise UserError(f"cannot play {feed.sample_rate} Hz on "
                    f"{'the default device' if index is None else names[index]}: {reason}; the "
                    f"device may be busy. There are: {list_names(names)}")


def find_by_name(text: str, names: Mapping, what: str):
    """The key of the name that equals `text`, or of the only name that contains `text`; upper and
    lower case are equal. Otherwise raises `UserError`, which lists the names.
    """
    near = {key: name for key, name in names.items() if text.casefold() in name.casefold()}
    exact = [key for key, name in near.items() if name.casefold() == text.casefold()]
    if exact or len(near) == 1:
        return (exact or list(near))[0]
    problem = f"matches several: {list_names(near)}" if near else (
        f"was not found; there are: {list_names(names)}" if names
        else "was not found; there is none")
    raise UserError(f"{what} {text!r} {problem}")


def list_names(names: Mapping) -> str:
    """The names with their keys, as text."""
    return ", ".join(name if key == name else f"{key} ({name})" for key, name in names.items())


@contextlib.contextmanager
def keyboard() -> Iterator[Callable[[float], str]]:
    """Yields a function that waits up to `seconds` for a key and returns the key, or "". If stdin
    is no terminal of this process, the function only waits. The terminal is restored at the end.
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
            if pressed == b"\x1b" and select.select([fd], [], [], 0)[0]:
                os.read(fd, 32)  # the rest of an escape sequence, such as an arrow key's
            return pressed.decode("ascii", "ignore")
        return ""

    try:
        yield read_key
    finally:
        if before is not None:
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def status_line(level: int, status: Status) -> str:
    """The line below a playing stream: position, level, real-time factor, buffer, keys."""
    minutes, seconds = divmod(int(status.seconds), 60)
    underruns = (f" · {status.underruns} underrun{'s' * (status.underruns != 1)}"
                 if status.underruns else "")
    state = "paused" if status.paused else "space pauses, q quits"
    return (f"{minutes}:{seconds:02d} · level {level} · {status.speed:.1f} x real time · "
            f"buffer {status.buffered:.1f} s{underruns} · {state}")
