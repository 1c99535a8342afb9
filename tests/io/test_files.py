import errno
import fcntl
import os

import pytest

from vqwave.errors import UserError
from vqwave.io import files

NAME = "generator_128"


def test_a_folder_is_trained_in_by_one_process_at_a_time(tmp_path):
    with files.lock_folder(tmp_path, NAME, "being trained"):
        with pytest.raises(UserError, match=f"{NAME} is already being trained.*process "
                                            f"{os.getpid()} since"), \
                files.lock_folder(tmp_path, NAME, "being trained"):
            pass
        with files.lock_folder(tmp_path, "generator_8", "being trained"):
            pass
    with pytest.raises(ValueError), files.lock_folder(tmp_path, NAME, "being trained"):
        raise ValueError
    with files.lock_folder(tmp_path, NAME, "being trained"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_file_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    lock, opened = files.try_lock, []

    def try_lock(file, otherwise):
        opened.append(file)
        if len(opened) == 1:
            os.unlink(file.name)
        return lock(file, otherwise)

    monkeypatch.setattr(files, "try_lock", try_lock)
    with files.lock_folder(tmp_path, NAME, "being trained"):
        assert len(opened) == 2 and (tmp_path / f".{NAME}.lock").read_text().startswith("process")


@pytest.mark.parametrize("error, held",
                         [(OSError(errno.ENOLCK, ""), True), (OSError(errno.EBADF, ""), True),
                          (BlockingIOError(), False)])
def test_a_folder_without_locks_can_be_trained_in(tmp_path, monkeypatch, error, held):
    def fail(*_):
        raise error

    monkeypatch.setattr(fcntl, "flock", fail)
    if held:
        with files.lock_folder(tmp_path, NAME, "being trained"):
            pass
        with open(tmp_path / "file", "w") as file:
            assert not files.try_lock(file)  # what is swept must be known to be nobody's
    else:
        with pytest.raises(UserError, match="another process"), files.lock_folder(tmp_path, NAME,
                                                                                  "being trained"):
            pass


@pytest.mark.parametrize("make", [os.symlink, os.link, lambda _, path: os.mkfifo(path)],
                         ids=["link", "second name", "pipe"])
def test_a_lock_is_never_written_through_a_link(tmp_path, make):
    precious, folder = tmp_path / "precious.txt", tmp_path / "data"
    precious.write_text("mine")
    folder.mkdir()
    make(precious, folder / f".{NAME}.lock")
    with pytest.raises(UserError, match=f"{NAME}.lock: is .*; remove it"), \
            files.lock_folder(folder, NAME, "being trained"):
        pass
    assert precious.read_text() == "mine"


def test_a_dangling_link_makes_no_file(tmp_path):
    (tmp_path / "index").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        files.open_own(tmp_path / "index")
    assert not (tmp_path / "elsewhere").exists()


def test_a_dead_process_holds_nothing(tmp_path):
    (tmp_path / f".{NAME}.lock").write_text("process 12345 since 1999-01-01 00:00:00")
    with files.lock_folder(tmp_path, NAME, "being trained"):
        assert f"process {os.getpid()} " in (tmp_path / f".{NAME}.lock").read_text()


@pytest.mark.parametrize("make", [os.symlink, os.link], ids=["link", "second name"])
def test_a_recording_is_not_replaced_under_another_name(tmp_path, make):
    recording, other = tmp_path / "recording.wav", tmp_path / "other.wav"
    recording.write_text("mine")
    make(recording, tmp_path / "output.wav")
    with pytest.raises(UserError, match="output.wav: is the recording itself"):
        files.check_replaced([tmp_path / "output.wav"], force=True, inputs=[other, recording])
    other.write_text("an earlier output")
    files.check_replaced([other], force=True, inputs=[recording])
    with pytest.raises(UserError, match="other.wav: exists"):
        files.check_replaced([other], force=False, inputs=[recording])
