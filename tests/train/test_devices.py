import numpy as np
import pytest
from prepared import data_folder, music

from vqwave.data.windows import AudioWindows
from vqwave.errors import UserError
from vqwave.train import devices
from vqwave.train.devices import DeviceGroup


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared") / "data"
    return folder, data_folder(folder, {f"track {i}": music(1.5, i) for i in range(3)})


def test_the_shares_of_a_batch_are_the_batch(data):
    folder, tracks = data
    for fixed in (None, 12, 9):
        alone = AudioWindows(folder, tracks, 2048, 8, 0, fixed=fixed, share=DeviceGroup(4))
        shares = [AudioWindows(folder, tracks, 2048, 8, 0, fixed=fixed, share=DeviceGroup(4, 2, rank))
                  for rank in (0, 1)]
        for batch in range(alone.num_batches or 3):
            parts = [share[batch][0] for share in shares]
            assert len(parts[0]) == len(parts[1])
            assert np.array_equal(alone[batch][0], np.concatenate(parts))
    # As many as the devices can share, even where there are fewer places than devices.
    assert AudioWindows(folder, tracks, 2048, 8, 0, fixed=9, share=DeviceGroup(4)).fixed == 8
    short = [t for t in tracks[:1]]
    assert AudioWindows(folder, short, short[0].samples - 1, 8, 0, fixed=9,
                        share=DeviceGroup(4)).fixed == 4


def test_a_batch_that_cannot_be_shared_out_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "_join", lambda: DeviceGroup(3))
    with devices.join(True) as group:
        assert group.devices == 3
        group.check_batch(6)
        with pytest.raises(UserError, match="--batch-size is 8; .* a multiple of 3"):
            group.check_batch(8)
    with devices.join(False) as group:
        assert group is devices.ALONE
        group.check_batch(7)


def test_several_devices_need_jax():
    with pytest.raises(UserError, match="KERAS_BACKEND=jax"), devices.join(True):
        pass


def test_only_the_first_process_writes(monkeypatch):
    assert devices.is_first()
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    for rank, first in (("0", True), ("1", False)):
        monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", rank)
        assert devices.is_first() == first
