import re
import tomllib
from pathlib import Path

import yaml

from vqwave.io.audio import AUDIO_SUFFIXES

ROOT = Path(__file__).resolve().parent.parent
NOTICE = (ROOT / "NOTICE").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def sounds(folder):
    found = [path for path in folder.rglob("*") if path.suffix in AUDIO_SUFFIXES]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def test_notice_names_exactly_the_sounds_in_docs():
    named = re.findall(r"^ +(docs/\S+)$", NOTICE, re.MULTILINE)
    assert sorted(named) == sounds(ROOT / "docs") != []


def test_every_licence_text_is_there_and_goes_into_wheel_and_image():
    named = set(re.findall(r"LICENSES/\S+\.txt", NOTICE))
    assert named == {path.relative_to(ROOT).as_posix() for path in (ROOT / "LICENSES").iterdir()} != set()
    # A file is there for each licence that the text advises.
    assert {f"LICENSES/{name}.txt" for name in re.findall(r"under (GPL-\d\.\d)", NOTICE)} <= named
    assert "LICENSES/*.txt" in PROJECT["project"]["license-files"]
    assert "LICENSES LICENSES" in (ROOT / "Dockerfile").read_text() and "!LICENSES" in (ROOT / ".dockerignore").read_text().split()


def test_every_track_of_the_split_has_a_title_and_a_composer():
    split = yaml.safe_load((ROOT / "recipes/wesnoth/split.yml").read_text())
    listed = dict(re.findall(r"^  (\S+) {2,}(\S.*\S) {2,}\S", NOTICE, re.MULTILINE))
    assert len(listed) == 41 + 1  # and the line that names the columns
    named = [name for names in split.values() if isinstance(names, list) for name in names]
    assert named and [name for name in named if name not in listed] == []
