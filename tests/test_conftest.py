"""conftest.py: what the processes of a test run share."""

from concurrent.futures import ThreadPoolExecutor

import pytest


def test_of_many_who_ask_at_once_one_fills_the_folder(shared):
    # A lock holds between open files, whether of threads or of processes.
    filled = []

    def fill(folder):
        filled.append(folder)
        (folder / "what").write_text("whole")

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: shared("at once", fill), range(8)))
    assert filled == folders[:1] and set(folders) == set(filled)
    assert (filled[0] / "what").read_text() == "whole"


def test_what_could_not_be_filled_is_filled_anew(shared):
    def fail(folder):
        (folder / "half").touch()
        raise ValueError

    with pytest.raises(ValueError):
        shared("anew", fail)
    assert not list(shared("anew", lambda folder: None).iterdir())
