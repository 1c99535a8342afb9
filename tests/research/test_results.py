import re
from types import SimpleNamespace

import imported
import pytest
from prepared import data_folder, music
from research import results

from vqwave.errors import UserError
from vqwave.io import splits

ROOT = imported.ROOT
TARGETS = {"mel, 8x": {"must": "≤ 0.5", "aim": "≤ 0.4"},
           "SI-SDR, 8x": {"aim": "≥ 13"},
           "Fréchet distance, 8x": {"must": "≤ 8"}}


@pytest.mark.parametrize(("name", "value", "expected"), [
    ("mel, 8x", 0.4, "aim met"), ("mel, 8x", 0.5, "must met"), ("mel, 8x", 0.6, "missed"),
    ("mel, 8x", float("nan"), "missed"), ("mel, 8x", None, "not measured"),
    ("SI-SDR, 8x", 12.0, "aim missed"), ("SI-SDR, 8x", 13.0, "aim met"), ("SC, 8x", 1.0, "")])
def test_a_verdict_follows_from_the_bounds(name, value, expected):
    assert results.verdict(value, TARGETS.get(name, {})) == expected


@pytest.mark.parametrize("text", ["mel: {must: 1 to}", "mel: {must: ≤ 3 (test ≤ 4)}", "mel: 3", "mel: {}", "mel: {must: 3}", "mel: {least: ≤ 3}",
                                  "mel: {must: ≤ x}"])
def test_a_malformed_bound_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "targets.yml").write_text(text)
    with pytest.raises(UserError, match="targets.yml: 'mel'"):
        results.read_targets(tmp_path / "targets.yml")


def test_every_bound_has_a_row_measured_or_not():
    pages = results.figure_tables({"test": {"codecs": {"mel, 8x": 0.3}}, "fresh": {}}, TARGETS)
    assert "| mel, 8x |" in pages["codecs"]
    rows = pages["not measured"].splitlines()[2:]
    assert len(rows) == 2 and all("not measured" in row.split(" | ")[4] for row in rows)


@pytest.mark.parametrize(("bounds", "pages"), [
    ("wesnoth/targets.yml", ("wesnoth", "timed")), ("wesnoth/clarity_targets.yml", ("clarity",)),
    ("both/targets.yml", ("both",))])
def test_every_bound_of_a_recipe_has_a_row_in_its_published_tables(bounds, pages):
    text = "".join((ROOT / "research/results" / f"{page}.md").read_text(encoding="utf-8") for page in pages)
    for name in results.read_targets(ROOT / "recipes" / bounds):
        assert f"| {name} | " in text


def test_a_bound_of_fresh_tracks_is_read_and_judged(tmp_path):
    (tmp_path / "targets.yml").write_text(
        "Fréchet distance, 8x: {must: ≤ 8 (fresh ≤ 9), aim: ≤ 5 (fresh ≤ 6)}")
    targets = results.read_targets(tmp_path / "targets.yml")
    row = results.figure_tables({side: {"codecs": {"Fréchet distance, 8x": value}} for side, value
                                 in (("test", 8.5), ("fresh", 8.5))}, targets)["codecs"]
    assert row.splitlines()[-1] == ("| Fréchet distance, 8x | ≤ 8 (fresh ≤ 9) | ≤ 5 (fresh ≤ 6) | "
                                    "8.5 | missed | 8.5 | must met |")


def test_choices_are_gathered_from_every_recipe_that_shares_a_track(tmp_path):
    tracks = data_folder(tmp_path / "data", {name: music(1.0, i)
                                             for i, name in enumerate(["a", "b", "c"])})
    for recipe, text in {"one": "test: [a]\nchosen_by_test: the temperature\nfresh: [b]\n"
                                "chosen_by_fresh: the cost\n",
                         "two": "test: [a, b]\n", "three": "test: [z]\nchosen_by_test: all\n"
                         }.items():
        (tmp_path / "recipes" / recipe).mkdir(parents=True)
        (tmp_path / "recipes" / recipe / "split.yml").write_text(text)

    def describe(side, *arguments):
        return results.describe_side(side, *arguments, tmp_path)

    assert ("Chosen by looking at some of these tracks: the temperature."
            in describe("test", tracks[:2], {}))
    assert "tracks: the cost." in describe("fresh", tracks[1:], {})
    own = describe("test", tracks[1:], {"m": [], "g": ["b"], "x": None})
    assert "No recipe records a choice by these tracks." in own and "published" not in own
    assert "**g was trained on b.**" in own and "not recorded what x were trained on" in own
    assert "were chosen on these" in describe("validation", tracks, {})
    assert "published" not in describe("fresh", tracks[1:2], {})
    for some, words in ((tracks[1:2], "(page) and seen before later choices"), (tracks[2:], "were published (page).")):
        results.write(tmp_path, "page", describe("fresh", some, {}))
        assert words in describe("fresh", some, {})


def test_pages_and_documents_name_every_choice_that_the_splits_declare():
    for path in (ROOT / "research" / "results").glob("*.md"):
        for line in path.read_text().splitlines():
            if found := re.match(r"(Test|Fresh) tracks: (.*?) \((\d+) min\)", line):
                names = found[2].split(", ")
                tracks = [SimpleNamespace(file=x, source=x, sha256="", seconds=60 * int(found[3]) / len(names))
                          for x in names]
                assert line.startswith(results.describe_side(found[1].lower(), tracks, {})), path
        if "fresh track" in path.read_text():
            assert "\nFresh tracks: " in path.read_text(), path
    declared = splits.read_split(ROOT / "recipes" / "wesnoth" / "split.yml").chosen_by_test
    for name in ("RESULTS.md", "final_weights/README.md", "research/sound.md"):
        assert " ".join(declared.split()) in " ".join((ROOT / name).read_text().split()), name
