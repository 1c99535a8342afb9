"""Runs one function over many jobs on a Dask cluster."""

import concurrent.futures
import contextlib
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import UserError

SCHEDULER_TIMEOUT = 30.0  # seconds to wait for a scheduler
WORKER_TIMEOUT = 600.0  # seconds to wait for the first worker, which may be starting
_KEPT = "; finished work is kept, and the same command continues"


class WorkerDied(Exception):
    """The process of a job has died on several workers, one after the other."""


def run(address: str, function: Callable, jobs: Iterable[tuple],
        say: Callable[[str], object] = lambda line: print(line, file=sys.stderr, flush=True)
        ) -> Iterator[tuple[tuple, Any]]:
    """Run `function(*job)` for each job on the workers of a Dask cluster: (job, its result) in the
    order in which they finish. Workers need this package in the same version, and the same files.
    The result is a `WorkerDied` if the job kills its workers; exceptions of a job are raised here.
    say: called with a line when the cluster has no workers.
    """
    waiting, running, more = iter(jobs), {}, True
    with _connect(address) as client, client.get_executor(pure=False) as executor:
        watch = _Watch(address, say)
        try:
            while more or running:
                threads = watch.check(client)
                # A few jobs for each thread, so that the scheduler never holds a million jobs.
                while more and len(running) < 4 * threads:
                    job = next(waiting, None)
                    more = job is not None
                    if more:
                        running[executor.submit(function, *job)] = job
                if more and not running:
                    time.sleep(1.0)
                finished, _ = concurrent.futures.wait(running, 1.0,
                                                      concurrent.futures.FIRST_COMPLETED)
                for future in finished:
                    job = running.pop(future)
                    yield job, _result(address, future)
        finally:
            # The caller may stop early.
            for future in running:
                future.cancel()


class _Watch:
    """Watches whether a cluster still has a scheduler and workers."""

    def __init__(self, address: str, say: Callable[[str], object]):
        self.address, self.say = address, say
        self.answered = self.had_worker_at = time.monotonic()
        self.had_workers = self.waiting = False

    def check(self, client) -> int:
        """The threads of the cluster's workers. Raises `UserError` after waiting too long."""
        threads, now = None, time.monotonic()
        # The call fails while the client reconnects.
        with contextlib.suppress(OSError):
            threads, self.answered = sum(client.nthreads().values()), now
        if threads:
            self.had_worker_at, self.had_workers, self.waiting = now, True, False
        elif threads == 0 and not self.waiting:
            self.waiting = True
            self.say(f"{self.address}: the scheduler has "
                     f"{'lost its workers' if self.had_workers else 'no workers yet'}; waiting "
                     f"up to {WORKER_TIMEOUT:.0f} s for one")
        if now - self.answered > SCHEDULER_TIMEOUT:
            raise UserError(f"{self.address}: the scheduler has gone away{_KEPT}")
        if now - self.had_worker_at > WORKER_TIMEOUT:
            raise UserError(f"{self.address}: the scheduler has had no workers for "
                            f"{WORKER_TIMEOUT:.0f} s; start some with: dask worker "
                            f"{self.address}{_KEPT}")
        return threads or 0


def _result(address, future):
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as e:
        return WorkerDied(str(e))
    except ImportError as e:
        raise UserError(f"{address}: a worker does not have this version of vqwave installed "
                        f"({e})") from e
    except concurrent.futures.CancelledError as e:
        raise UserError(f"{address}: the scheduler was stopped{_KEPT}") from e


@contextlib.contextmanager
def _connect(address):
    try:
        import distributed
    except ImportError as e:
        raise UserError("--scheduler needs Dask's distributed: pip install '.[cluster]'") from e
    if not re.fullmatch(r"(\w+://)?[^/]+:\d+", address):  # Dask would wait a minute
        raise UserError(f"{address}: is no address of a Dask scheduler, like tcp://HOST:PORT")
    # Dask's loggers would print tracebacks, and each has its own level.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("distributed"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(address, timeout=SCHEDULER_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as e:
        raise UserError(f"{address}: no Dask scheduler answers there "
                        f"({' '.join(str(e).split())})") from e
    with client:
        yield client
