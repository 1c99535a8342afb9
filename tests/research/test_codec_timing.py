import numpy as np
import pytest
from chains import save_codec
from prepared import data_folder, music
from research import timing

from vqwave import config as configs


def test_bits_are_those_of_changes_and_of_what_follows(rng):
    still, even = np.zeros((1000, 2), int), rng.integers(0, 16, (20_000, 2))
    assert timing.bits_a_second([still], 100, 1) < 5
    # Of 16 even codes a frame repeats one, so 15 of 16 change.
    chance = 15 / 16
    bits = 2 * (chance * 4 - chance * np.log2(chance) - (1 - chance) * np.log2(1 - chance))
    assert timing.bits_a_second([even[:9000], even[9000:]], 100, 2) == pytest.approx(50 * bits, rel=0.01)


@pytest.mark.large
def test_codecs_are_drawn_and_costs_make_codes_cheaper(tmp_path, capsys):
    data_folder(tmp_path / "songs", {name: music(12.0, i) for i, name in enumerate((*timing.TRACKS, "c"))})
    (tmp_path / "split.yml").write_text("test: [frantic]\nvalidation: [casualties_of_war]\n")
    (tmp_path / "weights").mkdir()
    save_codec(tmp_path / "weights", configs.validate_model({
        "kind": "codec", "name": "vqvae_512", "sample_rate": 22050, "front_end": {"kind": "log_frequency"},
        "encoder": {"kind": "banded", "units": 8}, "head": {"kind": "notes"},
        "stages": [{"stride": 8, "channels": 8, "dilations": [1]}, {"stride": 64, "channels": 8, "dilations": [1]}],
        "quantizer": {"kind": "gain_shape", "edges": [500, 2000], "shape": {"books": 7, "num_codes": 64, "code_dim": 4}}}))
    assert timing.main(["--data-dir", str(tmp_path / "songs"), "--split", str(tmp_path / "split.yml"),
                        "--codec", f"new={tmp_path / 'weights'}", "--rates", str(tmp_path / "weights"),
                        "--output-dir", str(tmp_path / "out")]) == 0
    names = {f"{track}_{what}" for track in timing.TRACKS
             for what in ("waveforms.png", "onsets.png", "original.ogg", "new.ogg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {"vqvae_512_rates.png"}
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    bits = [int(row[2]) for row in rows]
    assert len(rows) == len(timing.COSTS) and bits == sorted(bits, reverse=True) and bits[0] > 2 * bits[-1]
