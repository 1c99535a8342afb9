import re
from types import SimpleNamespace

import imported
import numpy as np
import pytest
from research import copies


def test_every_published_piece_is_searched():
    notice = (imported.ROOT / "NOTICE").read_text()
    generated = re.findall(r"\n(Made .*?:\n(?:  docs/\S+\n)+)", notice, re.DOTALL)
    listed = {path for part in generated for path in re.findall(r"docs/results/(\S+\.ogg)", part)}
    searched = {path.relative_to(imported.ROOT / "docs/results").as_posix() for pattern in copies.PIECES
                for path in (imported.ROOT / "docs/results").glob(pattern)}
    assert searched == listed and len(listed) > 15


def test_a_search_gives_seconds_with_and_without_held_sounds(rng):
    track = rng.integers(0, 256, (2000, 14))
    track[1000:1100] = track[1000]
    music = SimpleNamespace(encode=lambda sound, level: track[950:1150])
    corpus = SimpleNamespace(music=music, rate=copies.LEVEL * 10)
    found = copies.search(corpus, [track[:900], track[900:]], np.zeros(9))
    assert found["run"] == 20 and found["melody"] == pytest.approx(5, abs=0.4)
