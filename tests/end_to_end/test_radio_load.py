"""The load that the radio must carry, on loopback: minutes of work for an otherwise idle machine.

VQWAVE_LISTENERS: how many listen at the same time; VQWAVE_RADIO_SECONDS: for how long.
"""

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import pytest

from vqwave.studio import stations

ROOT = Path(__file__).resolve().parents[2]
LISTENERS = int(os.environ.get("VQWAVE_LISTENERS", 500))
SECONDS = float(os.environ.get("VQWAVE_RADIO_SECONDS", 300))
STATIONS, PLAYERS, PORT = 4, 8, 18200
LEAD = 1.5
"""Seconds that a player buffers before it plays."""

pytestmark = pytest.mark.large


@pytest.fixture
def radio():
    """The process of a radio of the shipped weights that has played."""
    line = [sys.executable, ROOT / "scripts/radio.py", "--port", PORT, "--stations", STATIONS,
            "--seed", 1, "--listeners", 2 * LISTENERS + 2000]
    with subprocess.Popen(list(map(str, line)), stdout=subprocess.DEVNULL) as process:
        end = time.monotonic() + 120
        try:
            while True:
                with contextlib.suppress(OSError):
                    assert read("/healthz") == b"ok\n"
                    break
                assert process.poll() is None and time.monotonic() < end
                time.sleep(0.2)
            assert len(read(address(0), 8192)) == 8192  # graphs may have to be exported first
            yield process
        finally:
            process.terminate()


def read(path, size=None):
    with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=600) as response:  # noqa: S310
        return response.read(size)


def listeners():
    return sum(station["listeners"] for station in json.loads(read("/stations")))


def memory(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) >> 10


def computing(process):
    """Seconds of computing in all threads of a process."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def address(i):
    return f"/{i % STATIONS + 1}.{('ogg', 'mp3')[i // STATIONS % 2]}"


async def listen(i, seconds):
    """Listen without decoding; the longest time without data."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    writer.write(f"GET {address(i)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    end, last, longest = time.monotonic() + seconds, None, 0.0
    try:
        while time.monotonic() < end:
            assert await asyncio.wait_for(reader.read(1 << 16), 30), "the connection was closed"
            now = time.monotonic()
            longest, last = max(longest, now - (last or now)), now
    finally:
        writer.close()
    return longest


def play(i, seconds):
    """Decode, and play at the pace of the clock; how often the player ran dry."""
    decoded, dry, began = 0.0, 0, None
    with av.open(f"http://127.0.0.1:{PORT}{address(i)}", timeout=60) as container:
        for frame in container.decode(audio=0):
            decoded += frame.samples / frame.sample_rate
            now = time.monotonic()
            if began is None and decoded >= LEAD:
                began = now
            if began is not None and now - began > decoded:
                dry, began = dry + 1, now - decoded + LEAD
            if began is not None and now - began > seconds:
                return dry
    raise AssertionError("the stream ended")


def test_many_listen_without_a_gap_for_minutes(radio):
    began, computed = time.monotonic(), computing(radio)

    async def crowd():
        return await asyncio.gather(*(listen(i, SECONDS) for i in range(LISTENERS - PLAYERS)))

    with ThreadPoolExecutor(PLAYERS) as pool:
        players = pool.map(lambda i: play(i, SECONDS), range(PLAYERS))
        longest = max(asyncio.run(crowd()))
        dry = sum(players)
    seconds = time.monotonic() - began
    print(f"{LISTENERS} listeners, {SECONDS:g} s: longest gap {longest:.2f} s, {dry} underruns of "
          f"{PLAYERS} players, {memory(radio)} MiB; "
          f"{(computing(radio) - computed) / seconds:.2f} cores, music included")
    assert longest < stations.LEAD_SECONDS, "a player would have run dry"
    assert dry == 0


def test_a_thousand_come_and_vanish_and_memory_stays(radio):
    async def come_and_go(count):
        for first in range(0, count, 50):
            await asyncio.gather(*(listen(i, 0.5) for i in range(first, first + 50)))

    asyncio.run(come_and_go(200))
    before = memory(radio)
    asyncio.run(come_and_go(1000))
    time.sleep(2)
    print(f"{before} MiB before, {memory(radio)} MiB after a thousand")
    assert listeners() == 0
    assert memory(radio) < before + 16
