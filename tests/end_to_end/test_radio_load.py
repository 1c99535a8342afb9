"""The load that radio is meant to carry, on loopback: minutes of work for a machine that does nothing
else.

VQWAVE_LISTENERS: who listens at the same time; VQWAVE_RADIO_SECONDS: for how long.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import av
import pytest

from vqwave.studio import stations

ROOT = Path(__file__).resolve().parents[2]
LISTENERS = int(os.environ.get("VQWAVE_LISTENERS", 500))
SECONDS = float(os.environ.get("VQWAVE_RADIO_SECONDS", 300))
STATIONS, PLAYERS, PORT = 4, 8, 18200
LEAD = 1.5
"""Seconds that a player has in hand before it plays."""

pytestmark = pytest.mark.large


@pytest.fixture
def radio():
    """Starts a radio of the shipped weights, which has played; the process."""
    started = []

    def start():
        process = subprocess.Popen(
            [sys.executable, ROOT / "scripts/radio.py", "--port", str(PORT), "--stations",
             str(STATIONS), "--seed", "1", "--listeners", str(2 * LISTENERS + 2000)],
            stdout=subprocess.DEVNULL, start_new_session=True)
        started.append(process)
        end = time.monotonic() + 120
        while True:
            try:
                assert text("/healthz") == "ok\n"
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.2)
        # Graphs may have to be made first.
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path_of(0)}", timeout=600) as answer:  # noqa: S310
            assert len(answer.read(8192)) == 8192
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def text(path):
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=30) as answer:  # noqa: S310
        return answer.read().decode()


def metric(name):
    return sum(float(x) for x in re.findall(rf"^vqwave_radio_{name}(?:{{.*}})? (\S+)$",
                                            text("/metrics"), re.MULTILINE))


def memory(process):
    """Bytes that are resident."""
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())[1]
               ) << 10


def computing(process):
    """Seconds that all its threads have computed."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def path_of(i):
    return f"/{i % STATIONS + 1}.{('ogg', 'mp3')[i // STATIONS % 2]}"


async def listen(i, seconds, gaps):
    """A listener that decodes nothing; notes the longest time that nothing came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(f"GET {path_of(i)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    end, last, longest = time.monotonic() + seconds, None, 0.0
    try:
        while time.monotonic() < end:
            data = await asyncio.wait_for(reader.read(1 << 16), 30)
            assert data, "the connection was closed"
            now = time.monotonic()
            longest, last = max(longest, now - (last or now)), now
    finally:
        writer.close()
    gaps.append(longest)


def play(i, seconds, underruns):
    """A player: decodes, and plays what it has at the pace of the clock."""
    heard, dry, began = 0.0, 0, None
    with av.open(f"http://127.0.0.1:{PORT}{path_of(i)}", timeout=60) as container:
        for frame in container.decode(audio=0):
            heard += frame.samples / frame.sample_rate
            now = time.monotonic()
            if began is None and heard >= LEAD:
                began = now
            if began is not None:
                if now - began > heard:
                    dry, began = dry + 1, now - heard + LEAD
                if now - began > seconds:
                    break
    underruns.append(dry)


def test_many_listen_without_a_gap_for_minutes(radio):
    process, gaps, underruns = radio(), [], []
    began, music, computed = time.monotonic(), metric("computing_seconds_total"), computing(process)

    async def crowd():
        await asyncio.gather(*(listen(i, SECONDS, gaps) for i in range(LISTENERS - PLAYERS)))

    players = [threading.Thread(target=play, args=(i, SECONDS, underruns)) for i in range(PLAYERS)]
    for player in players:
        player.start()
    asyncio.run(crowd())
    for player in players:
        player.join()
    print(f"{LISTENERS} listeners, {SECONDS:g} s: longest gap {max(gaps):.2f} s, "
          f"{sum(underruns)} underruns of {PLAYERS} players, {metric('underruns_total'):g} of the "
          f"radio, {memory(process) >> 20} MiB")
    seconds = time.monotonic() - began
    music = (metric("computing_seconds_total") - music) / seconds
    print(f"{(computing(process) - computed) / seconds:.2f} cores in all, {music:.2f} of the time "
          f"the music of {STATIONS} stations is made")
    assert len(gaps) == LISTENERS - PLAYERS and len(underruns) == PLAYERS
    assert max(gaps) < stations.LEAD_SECONDS, "whoever decodes nothing here would have run dry"
    assert sum(underruns) == metric("underruns_total") == metric("dropped_total") == 0


def test_a_thousand_come_and_vanish_and_memory_stays(radio):
    process, gaps = radio(), []

    async def come_and_go(count):
        for first in range(0, count, 50):
            await asyncio.gather(*(listen(i, 0.5, gaps) for i in range(first, first + 50)))

    asyncio.run(come_and_go(200))
    before = memory(process)
    asyncio.run(come_and_go(1000))
    time.sleep(2)
    print(f"{before >> 20} MiB before, {memory(process) >> 20} MiB after a thousand")
    assert metric("listeners") == 0 and metric("joined_total") == 1201
    assert memory(process) < before + (16 << 20)


def test_killed_and_started_again_players_come_back(radio):
    process, underruns = radio(), []
    play(0, 5, underruns)
    process.kill()
    process.wait()
    with pytest.raises(OSError):
        play(0, 5, underruns)
    radio()
    play(0, 5, underruns)
    assert len(underruns) == 2
