import json
import shutil
import subprocess

import pytest
from research import blind

from vqwave import cli


@pytest.mark.skipif(not shutil.which("node"), reason="needs node")
def test_a_page_hides_what_plays_and_counts_merged_votes(tmp_path, capsys):
    sounds, page = tmp_path / "sounds", tmp_path / "page"
    sounds.mkdir()
    for kind in blind.KINDS:
        (sounds / f"song_{kind}.ogg").write_bytes(kind.encode())
    arguments = ["--sounds", str(sounds), "--output-dir", str(page)]
    assert cli.entry(blind.main, [*arguments, "--before", str(sounds)]) == 0
    row = json.loads((page / "sounds.json").read_text())["rows"]["song"]
    assert {*row} == {*blind.KINDS, "generated before"} and len({*row.values()}) == 4
    assert all((page / name).read_bytes().decode() == kind.split()[0] and kind not in name for kind, name in row.items())
    for script in page.glob("*.js"):
        text = script.read_text()
        assert all((page / name).is_file() for name in ("dom.js", "ring.js", "votes.js") if f'"./{name}"' in text)
    program = """import { merge, tally } from "./votes.js";
        const vote = (id, best) => ({ id, row: "song", kinds: ["recording", "codec"], best });
        const votes = merge([vote("1", "codec"), vote("2", "recording")], [vote("2", "recording"), vote("3", "codec")]);
        let refused = 0;
        for (const bad of [{}, [{ id: "4" }]]) try { merge(votes, bad) } catch { refused += 1 }
        console.log(JSON.stringify([tally([]), tally(votes), refused]));"""
    (page / "test.mjs").write_text(program)
    (page / "package.json").write_text('{"type": "module"}')
    done = subprocess.run(["node", "test.mjs"], cwd=page, capture_output=True, text=True)
    none, [pair], refused = json.loads(done.stdout or "0")
    assert none == [] and refused == 2 and (pair["first"], pair["wins"], pair["count"]) == ("codec", 2, 3)
    assert pair["low"] == pytest.approx(0.208, abs=0.001) and pair["high"] == pytest.approx(0.939, abs=0.001)
    assert cli.entry(blind.main, ["--sounds", str(page), "--output-dir", str(page)]) == 2
    assert "holds no sounds" in capsys.readouterr().err
