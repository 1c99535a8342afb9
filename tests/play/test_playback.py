"""No sample is lost, repeated or changed on its way to the device, and the terminal is restored."""

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from commands import wait_until

from vqwave.play import playback
from vqwave.play.playback import Feed, Latency, play

RATE = 22050


def wave(samples):
    """Never zero, so that silence around and within it shows; exact in 16 bits."""
    return ((np.arange(samples) * 37 % 30000 + 1) / 32768).astype(np.float32)


def blocks_of(audio, size=1000):
    return [audio[i : i + size] for i in range(0, len(audio), size)]


@contextlib.contextmanager
def feeding(blocks, **options):
    """A feed that has begun to compute."""
    feed = Feed(blocks, RATE, **options)
    feed.start()
    yield feed
    feed.close()


def drain(feed, count):
    """What is left of a feed, read `count` samples at a time."""
    pieces, more = [], True
    while more:
        piece, more = feed.read(count)
        pieces.append(piece)
    return np.concatenate(pieces)


@pytest.mark.parametrize("count", [1, 1024])
def test_a_feed_gives_every_sample_once_in_order(count):
    audio = wave(20_000)
    with feeding(blocks_of(audio)) as feed:
        wait_until(lambda: feed._exhausted)
        heard = drain(feed, count)
    np.testing.assert_array_equal(heard[: len(audio)], audio)
    assert not heard[len(audio) :].any() and len(heard) < len(audio) + count
    assert feed.underruns == 0


def test_a_feed_computes_ahead_only_as_far_as_its_buffer():
    computed = []

    def endless():
        while True:
            computed.append(1)
            yield wave(1000)

    with feeding(endless(), buffer=10_000 / RATE) as feed:
        wait_until(lambda: feed._full)
        assert len(computed) == 11  # ten in the queue, one in hand
        feed.read(2500)
        wait_until(lambda: len(computed) == 13 and feed._full)
    assert not feed._thread.is_alive()
    assert len(computed) == 13


class Gate:
    """Blocks that a test lets through one by one."""

    def __init__(self, audio, size):
        self.blocks, self.open = blocks_of(audio, size), threading.Semaphore(0)

    def __iter__(self):
        for block in self.blocks:
            self.open.acquire()
            yield block


def test_a_slow_producer_is_counted_and_loses_nothing():
    audio = wave(8000)
    gate = Gate(audio, 1000)
    with feeding(gate, prebuffer=1000 / RATE) as feed:
        assert not feed.read(500)[0].any()
        assert feed.underruns == 0  # it has not begun: no underrun
        gate.open.release()
        wait_until(lambda: feed.ready)
        first, _ = feed.read(1500)
        assert feed.underruns == 1
        gate.open.release()
        wait_until(lambda: len(feed._queue) == 1000)
        # After an underrun it waits for twice the pre-buffer, so that it does not stutter from
        # block to block.
        assert not feed.read(500)[0].any()
        gate.open.release(6)
        wait_until(lambda: feed._exhausted)
        heard = np.concatenate([first, drain(feed, 700)])
    np.testing.assert_array_equal(heard[heard != 0], audio)
    assert feed.underruns == 1


def test_stopping_fades_out_and_ends():
    with feeding([np.full(1000, 0.5, np.float32)] * 100, fade=2000 / RATE) as feed:
        wait_until(lambda: feed._exhausted or feed._full)
        assert feed.read(500)[0].min() == 0.5
        feed.stop()
        heard = drain(feed, 512)
    assert len(heard) < 2000 + 512
    assert heard[0] > 0.49 and heard[-1] == 0
    assert (np.diff(heard) <= 0).all() and np.abs(np.diff(heard)).max() < 0.001


def test_pausing_holds_and_resuming_loses_nothing():
    audio = np.full(60_000, 0.5, np.float32)
    with feeding(blocks_of(audio), fade=1000 / RATE) as feed:
        wait_until(lambda: feed._exhausted)
        feed.read(500)
        feed.pause(True)
        assert feed.status.paused
        feed.read(1000)
        for _ in range(5):
            silence, more = feed.read(400)
            assert more and not silence.any()
        assert feed.status.seconds == 1500 / RATE
        feed.pause(False)
        back, _ = feed.read(1000)
        assert (np.diff(back) >= 0).all() and back[-1] == 0.5
        drain(feed, 1000)
    assert feed.status.seconds == len(audio) / RATE and feed.underruns == 0


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """ALSA with devices that need no sound card; a function: what the `default` one was given."""
    pytest.importorskip("pyaudio")
    folder = tmp_path_factory.mktemp("alsa")
    raw = folder / "heard.raw"
    (folder / "asound.conf").write_text(textwrap.dedent(f"""
        pcm.null {{ type null }}
        pcm.!default {{ type file slave.pcm "null" file "{raw}" format "raw" }}
        pcm.other_default {{ type null }}
        pcm.broken {{ type hw card 31 }}
    """))
    patch = pytest.MonkeyPatch()
    patch.setenv("ALSA_CONFIG_PATH", str(folder / "asound.conf"))

    yield lambda: np.fromfile(raw, np.int16)
    patch.undo()


def trimmed(heard):
    sounding = np.flatnonzero(heard)
    return heard[sounding[0] : sounding[-1] + 1] if len(sounding) else heard[:0]


@pytest.mark.parametrize("samples", [1, 50_000])
def test_a_device_receives_every_generated_sample(sound, samples):
    audio = wave(samples)
    end = play(blocks_of(audio, 8192), RATE, Latency(buffer=60, prebuffer=60))
    assert (end.seconds, end.underruns) == (samples / RATE, 0)
    np.testing.assert_array_equal(trimmed(sound()),
                                  np.round(audio * 32768).astype(np.int16))


PLAYER = """
    import os, sys, time
    if len(sys.argv) > 1:
        os.dup2(os.open(sys.argv[1], os.O_RDWR), 0)  # the first terminal that a session opens is its own
    import numpy as np
    from vqwave.play.playback import Latency, play

    def endless():
        while True:
            time.sleep(0.01)
            yield np.full(2048, 0.5, np.float32)

    def say(status, said=[]):
        now = "paused" if status.paused else "playing" if status.seconds else "waiting"
        if said[-1:] != [now]:
            said.append(now)
            print(now, flush=True)

    play(endless(), 22050, Latency(prebuffer=0.1), show=say)
    print("stopped", flush=True)
"""


@pytest.fixture
def player(sound):
    """Starts a program that plays for ever, in a session of its own."""
    started = []

    def start(*arguments):
        path = str(Path(playback.__file__).parents[2])
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", textwrap.dedent(PLAYER), *arguments],
                                   stdout=subprocess.PIPE, text=True,
            stdin=subprocess.DEVNULL, start_new_session=True, env=os.environ | {"PYTHONPATH": path},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def expect(process, *lines):
    for line in lines:
        while (said := process.stdout.readline().strip()) != line:
            assert said in ("waiting", "playing"), said


@pytest.mark.parametrize("last", [b"q", b"\x03"])
def test_keys_pause_resume_and_quit_and_the_terminal_is_restored(player, last):
    termios = pytest.importorskip("termios")
    keys, terminal = os.openpty()
    before = termios.tcgetattr(terminal)
    process = player(os.ttyname(terminal))
    expect(process, "playing")
    assert termios.tcgetattr(terminal) != before
    for key, line in ((b" ", "paused"), (b"x ", "playing")):
        os.write(keys, key)
        expect(process, line)
    os.write(keys, last)
    expect(process, "stopped")
    assert process.wait(30) == 0
    assert termios.tcgetattr(terminal) == before
    os.close(keys)
    os.close(terminal)
