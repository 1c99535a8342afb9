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
