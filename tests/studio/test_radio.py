"""Radio on this machine's own network: players open its streams, share them, and come and go."""

import asyncio
import http.client
import io
import re
import socket
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace

import av
import numpy as np
import pytest

from vqwave.studio import radio as radios
from vqwave.studio import stations
from vqwave.studio.stations import Channel, Group, Icy, Mp3, Opus, Station

RATE, BLOCK = 22050, 4096
PITCHES = (440.0, 660.0, 880.0)


class Stream:
    """Row i is a sine of its own pitch."""

    sample_rate, log_probs = RATE, {}

    def __init__(self, batch, seed=0):
        self.batch, self.position, self.closed = batch, 0, False
        self.bits = {"all": 4.0 + np.arange(batch)}

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
        self.streams, self.said, self.connections = [], [], []

        def new():
            self.streams.append(Stream(count))
            return self.streams[-1]

        def make(publish, say):
            return [Group("tiny/weights", count, 7, open_stream or new, publish=publish, say=say,
                          chosen={"mood": 1})]

        self.radio = radios.Radio(make, self.said.append, **more)
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

    def get(self, path, method="GET", **headers):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        self.connections.append(connection)
        connection.request(method, path, headers=headers)
        return connection.getresponse()

    def text(self, path):
        answer = self.get(path)
        status, said = answer.status, answer.read().decode()
        self.hang_up()
        return status, said

    def hang_up(self):
        """Close what `get` opened."""
        while self.connections:
            self.connections.pop().close()

    def metric(self, name):
        """The sum of a metric over its labels."""
        return sum(float(x) for x in re.findall(rf"^vqwave_radio_{name}(?:{{.*}})? (\S+)$",
                                                self.text("/metrics")[1], re.MULTILINE))

    @contextmanager
    def player(self, path):
        with av.open(f"http://127.0.0.1:{self.port}{path}", timeout=30) as container:
            yield container


@pytest.fixture(scope="module")
def running():
    with Running() as running:
        yield running


def until(what, seconds=30):
    """Wait for something that takes its time on a busy machine."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def pitch(container, seconds=1.0):
    """The loudest frequency of what a player hears."""
    heard, rate = [], 0
    for frame in container.decode(audio=0):
        heard.append(frame.to_ndarray()[0].astype(np.float64))
        rate = frame.sample_rate
        if sum(map(len, heard)) > seconds * rate:
            break
    audio = np.concatenate(heard)
    return np.abs(np.fft.rfft(audio * np.hanning(len(audio)))).argmax() * rate / len(audio)


@pytest.mark.parametrize("path, expected", [("/1.mp3", 440), ("/1.ogg", 440), ("/2.mp3", 660),
                                            ("/2.ogg", 660)])
def test_a_player_hears_its_station(running, path, expected):
    with running.player(path) as container:
        assert pitch(container) == pytest.approx(expected, abs=4)
        if path.endswith("ogg"):
            assert container.streams.audio[0].metadata["title"] == (
                "tiny/weights · seed 7 · piece " + path[1] + " · mood 1")


def test_who_comes_later_hears_the_same_stream(running):
    with running.player("/1.ogg") as first:
        pitch(first, 0.5)
        with running.player("/1.ogg") as second:
            assert pitch(second, 0.5) == pytest.approx(440, abs=4)
            assert running.metric("listeners") == 2
            assert len(running.streams) == 1
    until(lambda: running.metric("listeners") == 0)


@pytest.mark.parametrize("second", [(1, "mp3"), (0, "ogg")])
def test_the_first_listener_of_a_station_or_format_has_a_lead_too(second):
    """Beside one of another that plays for long: what it is given before the next block."""
    given, block = {}, threading.Semaphore(2 * RATE // BLOCK + 9)

    class Stepped(Stream):
        def __next__(self):
            block.acquire()
            return super().__next__()

    def publish(channel, chunks):
        given.setdefault((channel.station.row, channel.kind), []).append(b"".join(chunks))

    stream = Stepped(2)
    group = Group("w", 2, 0, lambda: stream, publish=publish)
    row, kind = second
    channel = group.stations[row].channels[kind]
    with group.listening(group.stations[0].channels["mp3"]):
        until(lambda: not block._value)
        assert list(given) == [(0, "mp3")]
        with group.listening(channel):
            block.release()
            until(lambda: second in given and round(group.music * RATE) == stream.position)
            heard = io.BytesIO(channel.header + b"".join(given[second]))
        block.release(9)
    group.close()
    with av.open(heard) as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate
    audio = np.concatenate(frames)
    assert len(audio) / rate > stations.LEAD
    assert np.abs(np.fft.rfft(audio * np.hanning(len(audio)))).argmax() * rate / len(audio) == (
        pytest.approx(PITCHES[row], abs=2)), "in one piece"


def test_titles_come_where_a_player_asks_for_them(running):
    answer = running.get("/1.mp3", **{"Icy-MetaData": "1"})
    every = int(answer.headers["icy-metaint"])
    assert answer.headers["icy-name"] == "VQWave 1" and answer.headers["icy-br"] == "64"
    sound = answer.read(every)
    size = 16 * answer.read(1)[0]
    title = answer.read(size).rstrip(b"\0").decode()
    assert re.fullmatch(r"StreamTitle='tiny/weights · seed 7 · piece 1 · mood 1 · 4.00 bits per "
                        r"code';", title)
    answer.close()
    running.hang_up()
    with av.open(io.BytesIO(sound), format="mp3") as container:
        assert pitch(container) == pytest.approx(440, abs=4)


def test_what_is_asked_for_wrongly_is_a_line(running):
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
    assert running.text("/healthz") == (200, "ok\n")


def test_the_page_lists_the_stations(running):
    status, page = running.text("/")
    assert status == 200 and page.count("<audio") == 2 and 'src="/2.mp3"' in page
    assert "tiny/weights · seed 7 · piece 1 · mood 1" in page


def test_only_this_machine_s_own_names_are_answered(running):
    for host, status in (("localhost", 200), ("127.0.0.1:1", 200), ("elsewhere.example", 421)):
        answer = running.get("/metrics", Host=host)
        assert answer.status == status
        answer.read()


def test_unfinished_requests_do_not_block_the_radio(running, monkeypatch):
    monkeypatch.setattr(radios, "SPARE", 4)
    with Running(most=6) as small:
        half = [socket.create_connection(("127.0.0.1", small.port)) for _ in range(20)]
        for connection in half:
            connection.sendall(b"GET /1.mp3 HTTP/1.1\r\nHos")
        assert small.text("/healthz") == (200, "ok\n")
        for connection in half:
            connection.close()


def test_metrics_are_in_prometheus_text(running):
    status, text = running.text("/metrics")
    assert status == 200
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) vqwave_radio_\w+ .+|vqwave_radio_\w+(\{(\w+="[^"]*",?)+\})? '
                            r"[0-9.e+-]+", line), line
    assert running.metric("joined_total") > 0 and running.metric("sent_bytes_total") > 1000
    assert running.metric("music_seconds_total") > 0


def test_nothing_is_made_while_nobody_listens():
    with Running() as running:
        assert running.text("/healthz")[0] == 200
        time.sleep(0.3)
        assert not running.streams
        with running.player("/1.mp3") as container:
            pitch(container, 0.3)
        until(lambda: running.metric("listeners") == 0)
        until(lambda: running.radio.groups[0].listeners == 0)
        time.sleep(0.5)
        made = running.streams[0].position
        time.sleep(1.0)
        assert running.streams[0].position == made
        with running.player("/2.ogg") as container:  # and it goes on
            assert pitch(container, 0.3) == pytest.approx(660, abs=6)
        assert len(running.streams) == 1


def test_there_is_an_end_to_room():
    with Running(most=1) as running, running.player("/1.mp3") as container:
        pitch(container, 0.1)
        answer = running.get("/1.mp3")
        assert answer.status == 503 and answer.headers["retry-after"]
        answer.close()
        assert running.metric("refused_total") == 1


def test_a_stream_that_fails_is_said_and_tried_again(monkeypatch):
    monkeypatch.setattr(stations, "AGAIN", 0.2)
    tried, broken = [], threading.Event()

    class Failing(Stream):
        def __next__(self):
            if broken.is_set():
                raise RuntimeError("no\nmore")
            return super().__next__()

    def new():
        tried.append(Failing(2))
        return tried[-1]

    with Running(open_stream=new) as running, running.player("/1.mp3") as container:
        pitch(container, 0.3)
        broken.set()
        until(lambda: running.text("/healthz") == (503, "tiny/weights: RuntimeError: no more\n"))
        until(lambda: len(tried) > 2)
        assert tried[0].closed
        broken.clear()
        until(lambda: running.text("/healthz")[0] == 200)
        assert pitch(container, 0.5) == pytest.approx(440, abs=6)
        assert running.said[0] == "tiny/weights: RuntimeError: no more"


def test_what_failed_is_well_again_also_where_nobody_listens(monkeypatch):
    monkeypatch.setattr(stations, "AGAIN", 0.2)
    tried, broken = [], threading.Event()
    broken.set()

    def new():
        tried.append(Stream(2))
        if broken.is_set():
            raise RuntimeError("no more")
        return tried[-1]

    with Running(open_stream=new) as running:
        answer = running.get("/1.mp3")
        until(lambda: running.radio.health())
        answer.close()
        running.hang_up()
        until(lambda: not running.radio.listeners)
        failed = len(tried)
        until(lambda: len(tried) > failed + 1)
        assert running.text("/healthz") == (503, "tiny/weights: RuntimeError: no more\n")
        assert running.said == ["tiny/weights: RuntimeError: no more"], "once, not at each try"
        broken.clear()
        until(lambda: running.text("/healthz") == (200, "ok\n"))
        assert tried[-1].position == BLOCK, "one block, which shows that it plays"


def test_a_slow_listener_is_dropped_to_live_and_no_other_waits(monkeypatch):
    monkeypatch.setattr(stations, "KEPT", 0.5)

    async def listen():
        station = Station("1", Group("w", 1, 0, lambda: Stream(1)), 0)
        channel = Channel(station, "mp3")
        channel.publish([b"a", b"b"])
        data, number = await channel.read(0)
        assert (data, number) == (b"ab", 2)
        waiting = asyncio.ensure_future(channel.read(2))
        await asyncio.sleep(0)
        assert not waiting.done()
        channel.publish([b"c"])
        assert await waiting == (b"c", 3)
        await asyncio.sleep(0.6)
        channel.publish([b"d"])  # a, b and c are too old now
        assert channel.first == 3
        data, number = await channel.read(2)
        assert (data, number, channel.dropped) == (b"d", 4, 1)
        station.group.close()

    asyncio.run(listen())


def test_a_new_listener_begins_at_most_the_lead_behind(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(stations, "time", SimpleNamespace(monotonic=lambda: now.seconds))
    channel = Channel(None, "mp3")
    for second in range(20):
        now.seconds = float(second)
        channel.publish([b"%d," % second])
    now.seconds = 19.5
    data, _ = asyncio.run(channel.read(channel.begin()))
    assert data == b"18,19,"


def test_a_listener_that_reads_nothing_is_disconnected(monkeypatch):
    monkeypatch.setattr(radios, "STALLED", 0.3)
    with Running() as running:
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        stuck.connect(("127.0.0.1", running.port))
        # As much as the system's buffers hold comes at once, and it reads none of it.
        for group in running.radio.groups:
            monkeypatch.setattr(group, "_send", flood(group))
        stuck.sendall(b"GET /1.mp3 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: running.metric("stalled_total") == 1)
        until(lambda: running.metric("listeners") == 0)
        stuck.close()


def flood(group):
    def send(stream, block, rate):
        for channel in group.stations[0].channels.values():
            if channel.listeners:
                group.publish(channel, [bytes(1 << 17)])

    return send


def test_music_that_comes_too_late_is_counted(monkeypatch):
    monkeypatch.setattr(stations, "LEAD", 0.05)

    class Slow(Stream):
        def __next__(self):
            time.sleep(0.4)
            return super().__next__()

    with Running(1, lambda: Slow(1)) as running, running.player("/1.mp3") as container:
        pitch(container, 0.6)
        assert running.metric("underruns_total") > 0


@pytest.mark.parametrize("kind", [Opus, Mp3])
@pytest.mark.parametrize("rate", [8000, 22050, 44100])
def test_a_player_may_begin_at_any_chunk(kind, rate):
    encoder, made = kind(rate, 64000, "a title"), []
    at = np.arange(4 * rate) / rate
    sound = np.round(9000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16)
    for i in range(0, len(sound), 3000):
        made += encoder.encode(sound[i : i + 3000])
    assert len(made) > 10
    for first in (0, 7):
        late = io.BytesIO(encoder.header + b"".join(made[first:]))
        with av.open(late) as container:
            assert pitch(container, 2.0) == pytest.approx(440, abs=4)


def test_titles_stand_at_every_place_whatever_the_pieces(rng):
    sound = rng.integers(0, 256, 5 * Icy.EVERY + 123, dtype=np.uint8).tobytes()
    icy, made, i = Icy(), b"", 0
    while i < len(sound):
        size = int(rng.integers(1, 40000))
        made += icy(sound[i : i + size], "it's on" if i < 40000 else "another")
        i += size
    got, titles = b"", []
    while made:
        got, made = got + made[: Icy.EVERY], made[Icy.EVERY :]
        if made:
            size = 16 * made[0]
            if size:
                titles.append(made[1 : 1 + size].rstrip(b"\0").decode())
            made = made[1 + size :]
    assert got == sound
    assert titles == ["StreamTitle='it’s on';", "StreamTitle='another';"]
