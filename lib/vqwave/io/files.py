"""Files and folders: all-or-nothing writing, locks, checksums, and names as one line."""

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from ..errors import UserError
from ..levels import dump_yaml

_PACKED = Path(__file__).resolve().parents[1] / "shipped"
CHECKOUT = _PACKED if _PACKED.is_dir() else Path(__file__).resolve().parents[3]
"""The folder with the shipped weights: this checkout, or in a wheel `vqwave/shipped`."""


def printable(path) -> str:
    """`path` as one line of text: control characters and undecodable bytes are escaped."""
    text = os.fsdecode(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
                   for c in text)


def reason(error: OSError) -> str:
    """The system's reason for an error, without the error's number and path."""
    return (error.strerror or str(error) or type(error).__name__).lower()


def sha256(path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_folder(folder) -> Path:
    """`folder` as a path, created with its parents if missing. Raises `UserError` on failure."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(f"{printable(folder)}: cannot be created: {reason(e)}") from e
    return folder


def unpack(package, checksum: str, what: str, folder: Path, members: Mapping[str, str]):
    """Extract {path in `folder`: member} of a .whl or .tgz file. Raises `UserError` if the file is
    unreadable, or is not `what`, which has this SHA-256.
    """
    try:
        if sha256(package) != checksum:
            raise UserError(f"{printable(package)}: is not {what}")
        is_zip = zipfile.is_zipfile(package)
        with zipfile.ZipFile(package) if is_zip else tarfile.open(package) as archive:
            read: Callable = archive.open if is_zip else archive.extractfile
            for name, member in members.items():
                path = folder / name
                with (atomic_write(make_folder(path.parent) / path.name) as file,
                      read(member) as source):
                    shutil.copyfileobj(source, file)
    except OSError as e:
        raise UserError(f"{printable(e.filename or package)}: {reason(e)}") from e


def cache_folder() -> Path:
    """$VQWAVE_CACHE, else $XDG_CACHE_HOME/vqwave, else ~/.cache/vqwave."""
    if os.environ.get("VQWAVE_CACHE"):
        return Path(os.environ["VQWAVE_CACHE"])
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqwave"
    except RuntimeError as e:
        raise UserError("the graphs' cache has no home folder: set VQWAVE_CACHE") from e


def check_place(path) -> Path:
    """The path. Raises `UserError` for a folder, and if no file can be written there."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{printable(path)}: is a folder; name a file")
    if not path.parent.is_dir():
        raise UserError(f"{printable(path)}: there is no folder {printable(path.parent)}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"{printable(path)}: cannot be written: no permission in that folder")
    return path


def check_replaced(paths: Iterable, force: bool, inputs: Sequence = ()):
    """Raises `UserError` if a file to be written exists, unless `force`; and if it is an input."""
    for path in filter(os.path.exists, paths):
        if any(os.path.exists(x) and os.path.samefile(path, x) for x in inputs):
            raise UserError(f"{printable(path)}: is the recording itself; name another file")
        if not force:
            raise UserError(f"{printable(path)}: exists; name another file, or replace this one "
                            f"with --force")


@contextlib.contextmanager
def atomic_write(path):
    """A binary file that becomes `path` when the block ends without an exception. Otherwise the old
    file stays. A killed process leaves a hidden `.vqwave-*.part`, which `sweep` removes.
    """
    path = Path(path)
    # A new short name, because `path` may have the longest name that the file system allows.
    beside = path.parent / f".vqwave-{secrets.token_hex(6)}.part"
    file = open(beside, "x+b")  # noqa: SIM115
    try:
        with file:
            try_lock(file)
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise


def open_own(path):
    """A text file to read and to append to, new if there is none. Raises `UserError` for a link, a
    file with a second name (a hard link), a pipe and a device: these belong to something else.
    """
    def opener(name, flags):
        try:
            number = os.open(name, flags | os.O_NOFOLLOW, 0o666)
        except OSError as e:
            if os.path.islink(name):
                raise UserError(f"{printable(name)}: is a link; remove it") from e
            raise
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            os.close(number)
            raise UserError(f"{printable(name)}: is no plain file, or has a second name; remove it")
        return number

    return open(path, "a+", encoding="utf-8", opener=opener)


def write_yaml(path, values: dict):
    """Write a mapping as a YAML file, see `atomic_write`."""
    with atomic_write(path) as file:
        file.write(dump_yaml(values).encode())


def sweep(folder, seconds: float = 60):
    """Remove the half-written files of killed processes from `folder`: those that no process has
    locked, and that are `seconds` old, because a new file is not locked at once.
    """
    for path in Path(folder).glob(".vqwave-*.part"):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if time.time() - os.fstat(file.fileno()).st_mtime >= seconds and try_lock(file):
                os.unlink(path)


def try_lock(file, otherwise: bool = False) -> bool:
    """Lock `file` until it is closed; False if another process has the lock. otherwise: the result
    on file systems without locks, such as some network mounts.
    """
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        return otherwise
    return True


@contextlib.contextmanager
def lock_folder(folder, name: str, doing: str):
    """Lock `folder` for `name` while the block runs, where the file system has locks. The lock ends
    with the process. Raises `UserError`, that `name` is already `doing` there, if another process
    has the lock; and as `open_own`.
    """
    path = Path(folder) / f".{name}.lock"
    with contextlib.ExitStack() as opened:
        while True:
            file = opened.enter_context(open_own(path))
            if not try_lock(file, otherwise=True):
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise UserError(f"{printable(folder)}: {name} is already {doing} here by {holder}")
            # After this process opened the file, the former holder may have removed it.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    break
        file.truncate(0)
        file.write(f"process {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)
