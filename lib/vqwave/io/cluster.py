"""Runs one function over many jobs on a Dask cluster."""

import concurrent.futures
import contextlib
import itertools
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..errors import UserError

SCHEDULER_TIMEOUT = 30.0  # seconds to wait for a scheduler
WORKER_TIMEOUT = 600.0  # seconds to wait for a worker, which may be starting
MOST_WAITING = 1000  # jobs of which the scheduler knows
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
    idle_since = None

    def check():
        nonlocal idle_since
        idle_since = _check_workers(address, client, idle_since, say)

    with _connect(address) as client:
        executor = client.get_executor(pure=False)
        for job, future in completed(lambda job: executor.submit(function, *job), jobs,
                                     MOST_WAITING, check):
            yield job, _result(address, future)


def completed(submit: Callable, jobs: Iterable, most: int, check: Callable = lambda: None
              ) -> Iterator[tuple[Any, concurrent.futures.Future]]:
    """(job, its future, which is done) in the order in which they finish. submit: job -> future.
    most: jobs that are submitted at the same time. check: called every second.
    """
    waiting, running = iter(jobs), {}
    try:
        while True:
            running |= {submit(job): job for job in itertools.islice(waiting, most - len(running))}
            if not running:
                return
            for future in concurrent.futures.wait(
                    running, 1.0, concurrent.futures.FIRST_COMPLETED).done:
                yield running.pop(future), future
            check()
    finally:
        # The caller may stop early.
        for future in running:
            future.cancel()


def _check_workers(address: str, client, idle_since: float | None, say) -> float | None:
    """Since when the cluster has no workers; None if it has. Raises `UserError` after waiting too
    long.
    """
    workers, now = None, time.monotonic()
    with contextlib.suppress(OSError):  # while the client reconnects
        workers = client.nthreads()
    if workers:
        return None
    if idle_since is None and workers is not None:
        say(f"{address}: the scheduler has no workers; waiting up to {WORKER_TIMEOUT:.0f} s for "
            f"one")
    idle_since = idle_since or now
    if workers is None and now - idle_since > SCHEDULER_TIMEOUT:
        raise UserError(f"{address}: the scheduler has gone away{_KEPT}")
    if now - idle_since > WORKER_TIMEOUT:
        raise UserError(f"{address}: the scheduler has had no workers for {WORKER_TIMEOUT:.0f} s; "
                        f"start some with: dask worker {address}{_KEPT}")
    return idle_since


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
