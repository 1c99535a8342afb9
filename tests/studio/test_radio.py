"""Radio on this machine's own network: players open its streams, share them, and come and go."""

import asyncio
import contextlib
import http.client
import io
import socket
import threading
import time
from types import SimpleNamespace

import av
import numpy as np
import pytest
from commands import wait_until

from vqwave.studio import limits, names, stations
from vqwave.studio import radio as radios
from vqwave.studio.stations import Channel, StationGroup

RATE, BLOCK = 22050, 4096
PITCHES = (440.0, 660.0, 880.0)


class Stream:
    """Row i is a sine of its own pitch."""

    sample_rate = RATE

    def __init__(self, batch, seed=0):
        self.batch, self.position, self.closed = batch, 0, False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.closed = True

    def __next__(self):
        at = (self.position + np.arange(BLOCK)) / RATE
        self.position += BLOCK
        return np.stack([0.3 * np.sin(2 * np.pi * f * at) for f in PITCHES[: self.batch]]).astype(
            np.float32)


class Running:
    """A radio with fake stations, on a free port."""

    def __init__(self, count=2, open_stream=None, **more):
        self.streams, self.reports, self.connections = [], [], []

        def new():
            self.streams.append(Stream(count))
            return self.streams[-1]

        group = StationGroup("tiny/weights", count, 7, open_stream or new, RATE,
                             report=self.reports.append, label="calm")
        self.radio = radios.Radio([group], **more)
        self.port = None

    def __enter__(self):
        import uvicorn

        listening = socket.create_server(("127.0.0.1", 0))
        self.port = listening.getsockname()[1]
        self.server = uvicorn.Server(radios.configure(self.radio, "127.0.0.1",
                                                       log_level="critical"))
        self.thread = threading.Thread(target=self.server.run, args=([listening],))
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.hang_up()
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()
        self.radio.close()

    @property
    def listeners(self):
        return sum(station.listeners for station in self.radio.stations.values())

    def get(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.connections.append(connection)
        connection.request(method, path, headers=headers)
        return connection.getresponse()

    def text(self, path):
        answer = self.get(path)
        status, body = answer.status, answer.read().decode()
        self.hang_up()
        return status, body

    def hang_up(self):
        """Close what `get` opened."""
        while self.connections:
            self.connections.pop().close()

    @contextlib.contextmanager
    def player(self, path):
        with av.open(f"http://127.0.0.1:{self.port}{path}", timeout=30) as container:
            yield container


@pytest.fixture(scope="module")
def running():
    with Running() as running:
        yield running


def pitch(container, seconds=1.0):
    """The loudest frequency in the next seconds of what a player hears, at least three quarters of which must come."""
    heard, rate = [], 0
    for frame in container.decode(audio=0):
        heard.append(frame.to_ndarray()[0].astype(np.float64))
        rate = frame.sample_rate
        if sum(map(len, heard)) > seconds * rate:
            break
    audio = np.concatenate(heard)
    assert len(audio) > 0.75 * seconds * rate
    return np.abs(np.fft.rfft(audio * np.hanning(len(audio)))).argmax() * rate / len(audio)


@pytest.mark.parametrize("path, expected", [("/1.mp3", 440), ("/2.ogg", 660)])
def test_listeners_share_the_stream_of_their_station(running, path, expected):
    with running.player(path) as first:
        assert pitch(first) == pytest.approx(expected, abs=4)
        if path.endswith("ogg"):
            assert first.streams.audio[0].metadata["title"] == (
                f"{names.piece_name(9)} · tiny/weights · seed 7 · piece 2 · label calm")
        with running.player(path) as second:
            assert pitch(second, 0.5) == pytest.approx(expected, abs=4)
            assert running.listeners == 2 and len(running.streams) == 1
    wait_until(lambda: running.listeners == 0)


@pytest.mark.parametrize("row, kind", [(1, "mp3"), (0, "ogg")])
def test_a_new_listener_receives_the_music_of_a_channel_that_nobody_heard(row, kind):
    group = StationGroup("w", 2, 0, lambda: Stream(2), RATE)
    channel, playing = group.stations[row].channels[kind], group.stations[0].channels["mp3"]

    async def listen():
        with group.listening(playing):
            heard = group.stations[0].channels["ogg"].encoder
            while heard._position < stations.LEAD_SECONDS * RATE:
                await asyncio.sleep(0.02)
            chunks, _ = await channel.read(channel.begin())
        return io.BytesIO(channel.encoder.header + chunks)

    heard = asyncio.run(listen())
    group.close()
    with av.open(heard) as container:
        assert pitch(container, 0.75 * stations.LEAD_SECONDS) == pytest.approx(PITCHES[row], abs=2)


def test_wrong_requests_are_answered_in_a_line(running):
    assert running.text("/9.mp3") == (404, "There is no such station.")
    assert running.text("/1.wav")[0] == running.text("/1")[0] == 404
    with running.get("/1.mp3", "POST") as refused:
        assert refused.status == 405
    with running.get("/1.ogg", "HEAD") as head:
        assert head.status == 200 and head.headers["content-type"] == "audio/ogg"
    with socket.create_connection(("127.0.0.1", running.port)) as garbage:
        garbage.sendall(b"\x00\xffICY nonsense\r\n\r\n")
        garbage.settimeout(30)
        assert b" 400 " in garbage.recv(4096)
    for host, status in (("localhost", 200), ("127.0.0.1:1", 200), ("elsewhere.example", 421)):
        answer = running.get("/stations", Host=host)
        assert answer.status == status
        answer.read()
    assert running.text("/healthz") == (200, "ok\n")


def test_a_radio_limits_connections_and_listeners(monkeypatch):
    """Six connections in all, three of them from one address, a second for a header, one listener."""
    monkeypatch.setattr(radios, "SPARE", 5)
    monkeypatch.setattr(limits, "HEADER_SECONDS", 1.0)

    def send(data, source="127.0.0.1"):
        connection = socket.create_connection(("127.0.0.1", small.port), 30, (source, 0))
        connection.sendall(data)
        return connection

    with Running(most=1) as small:
        unfinished = [send(b"GET /1.mp3 HTTP/1.1\r\nHos") for _ in range(20)]
        assert small.text("/healthz") == (200, "ok\n")
        for connection in unfinished:
            with contextlib.suppress(ConnectionError):
                assert connection.recv(1) == b"", "closed by the radio"
            connection.close()
        bodies = [send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n") for _ in range(3)]
        assert all(b" 405 " in connection.recv(4096) for connection in bodies)
        with send(b"") as refused:
            assert b" 503 " in refused.recv(4096)
        bodies += [send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", "127.0.0.2") for _ in range(3)]
        assert all(b" 405 " in connection.recv(4096) for connection in bodies[3:])
        for _ in range(20):
            bodies.append(send(bytes(1000), "127.0.0.3"))
            assert b" 503 " in bodies[-1].recv(4096)
        assert len(small.server.server_state.connections) <= 2 * 6 + 1, "refused clients fill nothing"
        for connection in bodies[:6]:
            connection.close()
        wait_until(lambda: len(small.server.server_state.connections) <= 6)
        assert small.text("/healthz") == (200, "ok\n"), "refused clients take no places"
        for connection in bodies[6:]:
            connection.close()
        with small.player("/1.mp3") as container:
            pitch(container, 0.1)
            answer = small.get("/1.mp3")
            assert answer.status == 503 and answer.headers["retry-after"]
            answer.close()


def test_nothing_is_generated_while_nobody_listens():
    with Running() as running:
        assert running.text("/healthz")[0] == 200
        time.sleep(0.3)
        assert not running.streams
        with running.player("/1.mp3") as container:
            pitch(container, 0.3)
        wait_until(lambda: running.radio.groups[0].listeners == 0)
        time.sleep(0.5)
        position = running.streams[0].position
        time.sleep(1.0)
        assert running.streams[0].position == position
        with running.player("/2.ogg") as container:  # the same stream continues
            assert pitch(container, 0.3) == pytest.approx(660, abs=6)
        assert len(running.streams) == 1


def test_a_stream_that_fails_is_reported_once_and_opened_again(monkeypatch):
    monkeypatch.setattr(stations, "RETRY_SECONDS", 0.2)
    opened, broken = [], threading.Event()

    class Failing(Stream):
        def __next__(self):
            if broken.is_set():
                raise RuntimeError("no\nmore")
            return super().__next__()

    def new():
        opened.append(Failing(2))
        return opened[-1]

    failure = "tiny/weights: RuntimeError: no more"
    with Running(open_stream=new) as running, running.player("/1.mp3") as container:
        pitch(container, 0.3)
        broken.set()
        wait_until(lambda: running.text("/healthz") == (503, f"{failure}\n"))
        wait_until(lambda: len(opened) > 2)
        assert opened[0].closed and running.reports == [failure]
        broken.clear()
        wait_until(lambda: running.text("/healthz")[0] == 200)
        assert pitch(container, 0.5) == pytest.approx(440, abs=6)
        broken.set()
        wait_until(lambda: running.text("/healthz")[0] == 503)
        # It recovers although nobody listens: otherwise a balancer would send nobody.
        container.close()
        wait_until(lambda: not running.radio.listeners)
        broken.clear()
        wait_until(lambda: running.text("/healthz") == (200, "ok\n"))
        assert opened[-1].position == BLOCK


def test_a_slow_listener_continues_live_and_no_other_waits(monkeypatch):
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(stations, "time", SimpleNamespace(monotonic=lambda: clock.seconds))

    async def listen():
        channel = Channel(None, None)
        for chunk in (b"a", b"", b"b"):
            channel.publish(chunk)
        assert await channel.read(0) == (b"ab", 2)
        waiting = asyncio.ensure_future(channel.read(2))
        await asyncio.sleep(0)
        assert not waiting.done()
        channel.publish(b"c")
        assert await waiting == (b"c", 3)
        clock.seconds = stations.KEPT_SECONDS + 1
        channel.publish(b"d")  # a, b and c are too old now
        assert channel.first == 3
        assert await channel.read(2) == (b"d", 4)

    asyncio.run(listen())


@pytest.fixture
def channel(monkeypatch):
    """A channel with a block in each of 20 seconds; the last is half a second old."""
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(stations, "time", SimpleNamespace(monotonic=lambda: clock.seconds))
    channel = Channel(None, None)
    for second in range(20):
        clock.seconds = float(second)
        channel.publish(b"%d," % second)
    clock.seconds = 19.5
    return channel


def test_a_new_listener_begins_at_most_the_lead_behind(channel):
    data, _ = asyncio.run(channel.read(channel.begin()))
    assert data == b"18,19,"


def test_a_listener_that_lags_continues_at_most_the_lead_behind(channel):
    assert 5 < channel.first < 15
    data, number = asyncio.run(channel.read(5))
    assert (data, number) == (b"18,19,", 20)


def test_a_listener_that_reads_nothing_is_disconnected(monkeypatch):
    monkeypatch.setattr(radios, "LISTENER_STALL_SECONDS", 0.3)
    with Running() as running:
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        stuck.connect(("127.0.0.1", running.port))
        # More than the system's buffers hold, and the player reads nothing.
        [group] = running.radio.groups

        def flood(block):
            for channel in group.stations[0].channels.values():
                if channel.listeners:
                    group._loop.call_soon_threadsafe(channel.publish, bytes(1 << 17))

        monkeypatch.setattr(group, "_send", flood)
        stuck.sendall(b"GET /1.mp3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until(lambda: running.radio.listeners == 1)
        wait_until(lambda: running.radio.listeners == 0)
        stuck.close()
