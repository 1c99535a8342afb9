import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from encoded import encode, tone
from prepared import data_folder, music

from vqwave.codecs.codec_layer import load_encoder
from vqwave.data import codes
from vqwave.data.prepare import prepare
from vqwave.errors import UserError
from vqwave.io import cluster, manifest, weights
from vqwave.progress import Reporter, SilentReporter

pytest.importorskip("distributed")


class Cluster:
    """A scheduler and workers of one thread, each a process."""

    def __init__(self, workers):
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.address = self._wait_for(self.scheduler, r"(tcp://[\d.]+:\d+)")
        self.workers = [self.worker() for _ in range(workers)]

    def worker(self):
        process = self._start("worker", self.address, "--nthreads", "1",
                              "--no-nanny", "--no-dashboard")
        self._wait_for(process, "Registered to")
        return process

    @staticmethod
    def _start(what, *args):
        source = str(Path(manifest.__file__).parents[2])
        return subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{what}", *args], text=True,
                                env=os.environ | {"PYTHONPATH": source}, stderr=subprocess.PIPE)

    @staticmethod
    def _wait_for(process, pattern):
        output = ""
        for line in process.stderr:
            output += line
            if match := re.search(pattern, line):
                return match[0]
        raise AssertionError(output)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.communicate()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(cluster, "SCHEDULER_TIMEOUT", 1.0)
    monkeypatch.setattr(cluster, "WORKER_TIMEOUT", 1.0)


def test_a_cluster_prepares_the_same_folder_as_one_machine(tmp_path):
    src, alone, together = tmp_path / "music", tmp_path / "alone", tmp_path / "together"
    src.mkdir()
    # Each of its own pitch and length, so that results that trade places are seen.
    for i in range(6):
        encode(src / f"{i}.flac", tone(2 + i / 10, frequency=200 + 20 * i))
    (src / "bad.mp3").write_bytes(b"no")
    prepare(src, alone, 22050, workers=1)
    with Cluster(2) as dask:
        report = prepare(src, together, 22050, scheduler=dask.address)
    assert (len(report.converted), [path for path, _ in report.failed]) == (6, [f"{src}/bad.mp3"])
    tracks = manifest.read(together)
    assert tracks == manifest.read(alone)
    assert {path.name for path in together.iterdir()} == {manifest.NAME, *(t.file for t in tracks)}
    for t in tracks:
        assert t.path(together).read_bytes() == t.path(alone).read_bytes()


class Killing(Reporter):
    """Kills a process once something is encoded, and leaves an unfinished file in `folder`. What
    the process leaves is as old as this file.
    """

    def __init__(self, process, folder=None):
        super().__init__()
        self.process, self.folder, self.done = process, folder, []

    def __call__(self, line):
        pass

    def advance(self, done, loss=None):
        self.done.append(done)
        self.process.kill()
        for codec in self.folder.glob(".codes/*") if self.folder else ():
            if done == 1:
                (codec / ".vqwave-0.part").touch()
            for part in codec.glob(".vqwave-*.part"):
                with contextlib.suppress(FileNotFoundError):
                    os.utime(part, (0, 0))


def test_a_worker_killed_half_way_costs_no_codes_and_makes_none_twice(tmp_path, tiny_weights):
    folders = [tmp_path / "here", tmp_path / "there"]
    sounds = {f"track {i}": music(1.0, i) for i in range(10)}
    tracks = [data_folder(folder, sounds) for folder in folders][0]
    codec = weights.find(tiny_weights.codecs, "vqvae_32")
    wanted = [(t, v) for t in tracks for v in codes.variants(1, 1)]
    here = codes.encode_corpus(folders[0], wanted, codec, SilentReporter(), load_encoder)
    with Cluster(2) as dask:
        say = Killing(dask.workers[0], folders[1])
        there = codes.encode_corpus(folders[1], wanted, codec, say, load_encoder,
                                    scheduler=dask.address)
        assert say.done == list(range(1, 31))
    # Each is there with what the index says of it, once, and none is left half written.
    index = (there[0][0].parent / "index.jsonl").read_text().splitlines()
    assert len(index) == 31 and len({json.loads(line)["file"] for line in index[1:]}) == 30
    assert codes.encode_corpus(folders[1], wanted, codec, Killing(None), load_encoder) == there
    assert len(list(there[0][0].parent.iterdir())) == 31
    for (path, count), (other, length) in zip(here, there, strict=True):
        assert (path.name, count, path.read_bytes()) == (other.name, length, other.read_bytes())


def test_without_workers_without_a_scheduler_and_when_they_go_away(impatient):
    with Cluster(0) as dask:
        with pytest.raises(UserError, match="has had no workers for 1 s; start some with: dask "
                                            "worker tcp://"):
            list(cluster.run(dask.address, abs, [(1,)]))
        dask.workers.append(dask.worker())
        running = cluster.run(dask.address, time.sleep, [(0,), (600,)])
        assert next(running) == ((0,), None)
        dask.workers[0].kill()
        with pytest.raises(UserError, match="has had no workers for 1 s; .*; finished work is kept"):
            next(running)
        dask.workers.append(dask.worker())
        running = cluster.run(dask.address, time.sleep, [(0,), (600,)])
        assert next(running) == ((0,), None)
        dask.scheduler.kill()
        with pytest.raises(UserError, match="the scheduler (has gone away|was stopped); "
                                            "finished work is kept"):
            next(running)
    with pytest.raises(UserError, match="no Dask scheduler answers there"):
        list(cluster.run(dask.address, abs, [(1,)]))
    with pytest.raises(UserError, match="lab: is no address of a Dask scheduler, like tcp://HOST:PORT"):
        list(cluster.run("lab", abs, [(1,)]))
