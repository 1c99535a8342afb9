"""Any file, config or command line gives a result, or one line that says what is wrong.

A few hundred cases in every run, thousands with `-m large`. Separate processes read the files, with
a time limit, so that a crash or a hang of a decoder is seen.
"""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import shutil
import struct
import subprocess
import sys
import traceback
from pathlib import Path

import imported
import numpy as np
import pytest
import yaml
from commands import done
from encoded import encode, tone, with_headers_twice
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prepared import data_folder, music, save_numbers

from vqwave.codecs import Labels
from vqwave.errors import UserError
from vqwave.io import audio, files, manifest, weights
from vqwave.levels import ConfigError, load_yaml, override, replace, to_dict
from vqwave.presets import load_preset

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
TIMEOUT = 300.0  # seconds a file; all of them take milliseconds where nothing hangs

few_or_many = pytest.mark.parametrize("cases", [300, pytest.param(2500, marks=pytest.mark.large)])


SOUNDFILE = {".wav": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM"),
             ".flac": ("PCM_S8", "PCM_16", "PCM_24"),
             ".aiff": ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"),
             ".ogg": ("VORBIS",)}
RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
ODD_NAMES = ("two words", "-rf", "--help", "ünï 日本 🎵", "new\nline", "tab\there", "[red]", "%s %d", "a'b\"c",
             "*?", "~", os.fsdecode(b"bad \xff\xfe bytes"), "x" * 200, ".hidden", "a;b&c|d", "$(HOME)",
             "back\\slash", "\x1b[2J")


def good_files(folder):
    """(path, seconds) of a file in every format, rate, width and number of channels."""
    paths, seconds = [], 0.25

    def add(suffix, rate, channels, subtype=None):
        path = folder / f"good {suffix[1:]} {rate} {channels} {subtype}{suffix}"
        sound = np.stack([tone(seconds, rate)] * channels, 1)
        paths.append((encode(path, sound, rate, subtype=subtype), seconds))

    for suffix, subtypes in SOUNDFILE.items():
        for rate, channels in {*((r, 1) for r in RATES), *((44100, c) for c in range(1, 9))}:
            add(suffix, rate, channels, subtypes[0] if suffix == ".ogg" else subtypes[1])
        for subtype in subtypes:
            add(suffix, 22050, 2, subtype)
    for suffix, rates in ((".mp3", (8000, 22050, 44100, 48000)), (".m4a", (8000, 44100, 96000)),
                          (".aac", (8000, 44100, 96000)), (".opus", (8000, 16000, 48000))):
        for rate, channels in itertools.product(rates, (1, 2)):
            add(suffix, rate, channels)
    strange = tone(seconds, 44100)
    strange[::7], strange[3::11], strange[5::13] = np.nan, np.inf, -np.inf
    for name, sound in (("nan", strange), ("huge", 1e30 * tone(seconds)),
                        ("silent", np.zeros(11025)), ("one", [0.5])):
        for suffix in (".wav", ".aiff"):
            paths.append((encode(folder / f"good {name}{suffix}", sound, subtype="FLOAT"),
                         len(sound) / 44100))
    ogg = encode(folder / "good headers.ogg", tone(seconds))
    for within in (False, True):
        path = folder / f"good headers twice {within}.ogg"
        path.write_bytes(with_headers_twice(ogg.read_bytes(), within))
        paths.append((path, seconds))
    ogg.unlink()
    for i, name in enumerate(ODD_NAMES):
        path = folder / f"{name}{('.wav', '.flac', '.mp3')[i % 3]}"
        # Not straight to its name: FFmpeg, which writes some of these, cannot take every name.
        os.replace(encode(folder / f"odd{path.suffix}", tone(seconds, 22050), 22050), path)
        paths.append((path, seconds))
    return paths


def harmed(content: bytes, random) -> bytes:
    """`content` with a random damage: a part is removed, and other bytes take its place."""
    # Half of the time near the beginning, where the headers are.
    start = int(random.integers(min(len(content), 200) if random.random() < 0.5 else len(content)))
    removed = int(random.choice([0, 1, 4, random.integers(1, 2000), len(content)]))
    numbers = struct.pack(random.choice(["<I", ">I"]), random.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1]))
    fillers = [b"", bytes([content[start] ^ 1]), bytes(removed), numbers,
               random.bytes(int(random.integers(1, 5000))), content[start : start + 2000]]
    return content[:start] + fillers[int(random.integers(len(fillers)))] + content[start + removed :]


def bad_files(folder, good, random, count):
    """Paths of `count` damaged copies of good files, and of nonsense, some with a wrong ending."""
    suffixes = audio.AUDIO_SUFFIXES
    for i, suffix in enumerate(suffixes):
        for name, content in (("empty", b""), ("byte", b"\0"), ("noise", random.bytes(20_000)),
                              ("text", b"these are words\n" * 99),
                              ("list", b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"),
                              ("page", b"<!DOCTYPE html><html>not found</html>"),
                              ("zeros", bytes(50_000))):
            (folder / f"bad {name}{suffix}").write_bytes(content)
            yield folder / f"bad {name}{suffix}"
        other = good[int(random.integers(len(good)))][0]
        path = folder / f"bad wrong ending {i}{suffix}"
        shutil.copy(other, path)
        yield path
    for i in range(8 * len(suffixes), count):
        source = good[int(random.integers(len(good)))][0]
        content = source.read_bytes()
        for _ in range(int(random.integers(1, 4))):
            content = harmed(content, random) or b"\0"
        suffix = (suffixes[int(random.integers(len(suffixes)))] if random.random() < 0.2
                  else source.suffix)
        path = folder / f"bad {i}{suffix}"
        path.write_bytes(content)
        yield path


def probe(path) -> tuple[str, object]:
    """("sound", samples), ("refused", the line) or ("raised", the traceback)."""
    try:
        samples = 0
        for block in audio.Decoder(path, 22050):
            if (block.dtype != np.float32 or block.ndim != 1 or not np.isfinite(block).all()
                or abs(block).max() > 1):
                return "raised", f"a block of {block.dtype} {block.shape} that is no sound"
            samples += len(block)
        return "sound", samples
    except UserError as e:
        return "refused", str(e)
    except BaseException:
        return "raised", traceback.format_exc()


@pytest.fixture(scope="module")
def pool():
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as executor:
        yield executor


def assert_sound_or_one_line(path, outcome):
    kind, value = outcome
    assert kind != "raised", f"{path}: {value}"
    if kind == "refused":
        assert "\n" not in value and value.startswith(
            files.printable(path)) and len(value) < len(files.printable(path)) + 200
    else:
        assert value > 0


@few_or_many
def test_every_file_is_sound_or_one_line_and_no_good_track_is_lost(tmp_path, pool, cases):
    """Each file alone, then all of them in one folder through prepare_audio.py."""
    src = tmp_path / "music"
    src.mkdir()
    good = good_files(src)
    bad = list(bad_files(src, good, np.random.default_rng(cases), cases - len(good)))
    assert len(good) + len(bad) == cases or cases < len(good) + 64
    paths = [path for path, _ in good] + bad
    futures = [pool.submit(probe, path) for path in paths]
    outcomes = {path: future.result(TIMEOUT) for path, future in zip(paths, futures, strict=True)}
    for path in paths:
        assert_sound_or_one_line(path, outcomes[path])
    for path, seconds in good:
        kind, value = outcomes[path]
        assert kind == "sound", value
        # Lossy formats pad, by a frame or two of theirs.
        assert -0.01 < value / 22050 - seconds < 0.4, path

    code, output, _ = done(tmp_path / "log", "prepare_audio", src, tmp_path / "data", "--workers", 2)
    assert code == 1 and "Traceback" not in output and "ended the process" not in output
    *lines, _ = output.splitlines()
    assert all(line.startswith(("failed: ", "note: ")) for line in lines)
    tracks = {t.sha256: t for t in manifest.read(tmp_path / "data")}
    contents = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    failed = [line for line in lines if line.startswith("failed: ")]
    for path in paths:
        is_sound = outcomes[path][0] == "sound"
        assert (contents[path] in tracks) == is_sound, path
        if is_sound:
            assert tracks[contents[path]].samples == outcomes[path][1]
    assert len(manifest.read(tmp_path / "data")) == sum(kind == "sound" for kind, _ in outcomes.values())
    assert len(failed) == sum(kind == "refused" for kind, _ in outcomes.values())


def test_files_and_folders_without_permission_are_named_and_stop_nothing(tmp_path):
    plain = []
    if os.geteuid() == 0:  # who may read everything, unless told not to
        plain = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
        if not shutil.which("setpriv"):
            pytest.skip("root may read everything, and there is no setpriv")
    src = tmp_path / "music"
    (src / "locked").mkdir(parents=True)
    for name in ("good.wav", "secret.wav", "locked/inside.wav"):
        encode(src / name, tone(0.25))
    (src / "secret.wav").chmod(0)
    (src / "locked").chmod(0)
    (tmp_path / "shut").mkdir(mode=0o555)

    def prepared(dst):
        ended = subprocess.run([*plain, sys.executable, SCRIPTS / "prepare_audio.py",
                                src, dst, "--workers", "1"],
                               capture_output=True, text=True, check=False)
        return ended.returncode, ended.stderr

    assert prepared(tmp_path / "data") == (1, f"failed: {src}/locked: permission denied\n"
                                              f"failed: {src}/secret.wav: permission denied\n")
    assert [t.source for t in manifest.read(tmp_path / "data")] == [str(src / "good.wav")]
    line = f"prepare_audio.py: {tmp_path}/shut: cannot be written to: permission denied\n"
    assert prepared(tmp_path / "shut") == (2, line)
    (src / "locked").chmod(0o700)


def leaves(values, path=()):
    """(keys, value) of everything in a config, of the first element of a list."""
    for key, value in values.items():
        yield (*path, key), value
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict):
            yield from leaves(first, (*path, key) if first is value else (*path, key, 0))


def nested(path, value):
    for key in reversed(path):
        value = [value] if key == 0 else {key: value}
    return value


def test_a_wrong_value_of_any_key_is_one_line_that_names_the_key():
    compact, named = load_preset("compact"), set()
    for config in (load_preset("soundstream").codec(512), Labels(), compact.generator("generator_8"),
                   replace(compact.trainings["vqvae_8"], mixed_precision=False)):
        for path, usual in leaves(to_dict(config)):
            named.add(".".join(map(str, path)))
            wrong = ["words", {"a": 1}, float("nan"), [["x"]], -7, 10**400, float("-inf"), True, "a\n" * 999]
            if isinstance(usual, str):
                wrong = [*wrong[1:], "../../etc", ""]
            elif isinstance(usual, bool):
                wrong.remove(True)
            for value in wrong:
                with pytest.raises(ConfigError) as caught:
                    override(config, nested(path, value), "f.yml")
                message = str(caught.value)
                assert "\n" not in message and len(message) < 400 and message.startswith("f.yml: ")
                # The field that has kinds names a wrong kind, or a value that has none.
                keys = [str(key) for key in path if key != 0 and key != "kind"] or ["kind"]
                assert any(re.search(rf"\b{key}\b", message) for key in keys), message
    assert {"quantizer.num_codes", "stages.0.stride", "adversary.discriminators.0.n_fft",
            "conditions.0.dilations", "head.kind", "steps"} <= named


scalars = (st.none() | st.booleans() | st.integers(-10, 10**6) | st.floats()
           | st.text(max_size=12) | st.dates()
           | st.sampled_from(["vqvae_8", "1e-4", "00001", "best", "../x", 10**400]))
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.text(max_size=6) | st.integers(0, 3)
    | st.sampled_from(["config", "training", "sha256", "epoch", "encoder"]),
    inner, max_size=4), max_leaves=6)
many = settings(max_examples=150)


def one_line_or(call, *names):
    """The call's value, or None where it raises a `UserError` of one line with one of `names`."""
    try:
        return call()
    except UserError as e:
        assert "\n" not in str(e)
        assert any(str(name) in str(e) for name in names), str(e)


@pytest.fixture(scope="module")
def codec_set(tmp_path_factory):
    """A weights set of a codec, of made-up numbers; returns its folder and what its YAML holds."""
    folder = tmp_path_factory.mktemp("set")
    save_numbers(folder, load_preset("tiny").codec("vqvae_8"), "best", record={"epoch": 1, "step": 2})
    return folder, load_yaml(weights.config_path(folder, "vqvae_8", "best"))


def test_any_description_of_a_weights_set_is_read_or_refused_in_one_line(codec_set):
    folder, good = codec_set
    path = weights.config_path(folder, "vqvae_8", "best")

    @many
    @given(st.dictionaries(st.sampled_from(["schema", "model", "training",
                                            "data", "record", "sha256", "config"]),
                           anything, max_size=3)
           | st.dictionaries(st.sampled_from([*good["model"], *good["sha256"], *weights.Record.model_fields]),
                             anything, max_size=2).map(
               lambda changes: {part: values | {k: v for k, v in changes.items() if k in values or part == "record"}
                                for part, values in good.items() if isinstance(values, dict)}))
    @example({"record": {"codecs": 5}})
    @example({"record": {"tracks": 5}})
    @example({"record": {"validation_loss": "x"}})
    def check(changes):
        path.write_text(yaml.safe_dump(good | changes))
        weight_set = one_line_or(lambda: weights.find(folder, "vqvae_8"), folder)
        assert weight_set is None or set(weight_set.files) == set(weights.WEIGHT_PARTS["codec"])

    check()
    path.write_text(yaml.safe_dump(good))


def test_any_manifest_is_read_or_refused_in_one_line(tmp_path):
    tracks = data_folder(tmp_path, {"a": np.zeros(50), "b": np.zeros(70)})
    good = [dataclasses.asdict(track) for track in tracks]
    path = tmp_path / manifest.NAME

    @many
    @given(st.lists(st.tuples(st.integers(0, 1), st.dictionaries(
        st.sampled_from([*good[0], "last", "crc32"]),
        anything | st.sampled_from(["/etc/passwd", "../a", "a\0", "."]),
        max_size=2)), max_size=3) | st.binary(max_size=300) | anything)
    def check(content):
        if isinstance(content, list) and all(isinstance(line, tuple) for line in content):
            content = "\n".join(json.dumps(good[i] | changes, default=str)
                                for i, changes in content).encode()
        elif not isinstance(content, bytes):
            content = json.dumps(content, default=str, skipkeys=True).encode()
        path.write_bytes(content)
        for track in one_line_or(lambda: manifest.read(tmp_path), tmp_path) or ():
            assert track.path(tmp_path).resolve().is_relative_to(tmp_path.resolve())
            assert track.is_intact(tmp_path)

    check()


class Parsed(Exception):
    """Raised in place of parsing; holds the parser."""


def options(name) -> list:
    """(subcommand, option) for each option of a script, as argparse knows it."""
    def caught(self, *_, **__):
        raise Parsed(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed) as e:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", caught)
        imported.script(name).main([])
    pairs = []
    for action in e.value.args[0]._actions:
        if isinstance(action, argparse._SubParsersAction):
            pairs += [([command], option) for command, parser in action.choices.items()
                      for option in parser._actions]
        else:
            pairs.append(([], action))
    return [(command, option) for command, option in pairs if option.option_strings]


NAMES = sorted(p.stem for p in SCRIPTS.glob("*.py"))
WRONG = ("words", "", "nan", "inf", "1e999", "0x10", "1,5", "½", "-99999999999999999999", "1\n2",
         "٣x")


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_value_of_any_option_is_one_line_that_names_it(capsys, name):
    typed = [(command, action.option_strings[-1]) for command, action in options(name)
             if action.choices or action.type not in (None, str) and action.dest != "levels"]
    for (command, flag), value in itertools.product(typed, WRONG):
        code, _, stderr = imported.run(capsys, name, *command, f"{flag}={value}")
        assert code == 2, (flag, value)
        [line] = stderr.splitlines()
        assert flag in line, line
        assert " ".join(repr(value).split()) in line or " ".join(value.split()) in line


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """Paths that a command line may name by mistake, by what is wrong with them."""
    root = tmp_path_factory.mktemp("places")
    data_folder(root / "data", {f"t{i}": music(0.5, i) for i in range(3)})
    (root / "folder").mkdir()
    (root / "text.yml").write_text("words")
    (root / "wrong.yml").write_text("unitz: 3\nstridez: 3\n")
    return root


TRAIN = ["--data-dir", "DATA", "--output-dir", "OUT", "--size", "tiny"]
CODEC, GENERATOR = ["--model", "vqvae_8", *TRAIN], ["--generator", "generator_512", *TRAIN]
NAMED = [
    ("prepare_audio", ["none", "OUT"], "none: there is no such folder"),
    ("train_vqvae", ["--model", "vqvae_9", *TRAIN], "'vqvae_9'; there are vqvae_512"),
    ("train_vqvae", [*CODEC, "--data-dir", "none"], "none: there is no such folder"),
    ("train_vqvae", [*CODEC, "--data-dir", "folder"], "there is no manifest.jsonl in it"),
    ("train_vqvae", [*CODEC, "--config", "none.yml"], "none.yml: cannot be read"),
    ("train_vqvae", [*CODEC, "--config", "wrong.yml"], "wrong.yml: unknown key"),
    ("train_vqvae", [*CODEC, "--val-split", "wrong.yml"], "wrong.yml: unknown key"),
    ("train_vqvae", [*CODEC, "--val-split", "1"], "--val-split is 1; it must be a share"),
    ("train_vqvae", [*TRAIN], "--model is missing: it must be one of vqvae_512"),
    ("train_vqvae", [*CODEC, "--input-length", "2049"], "--input-length is 2049"),
    ("train_vqvae", [*CODEC, "--input-length", "20480000"], "--input-length, 20480000 samples"),
    ("train_vqvae", [*CODEC, "--output-dir", "text.yml"], "text.yml: cannot be written to"),
    ("train_vqvae", [*CODEC, "--input-length", "2048", "--start-from", "folder"],
     "folder: no weights of vqvae_8"),
    ("train_vqvae", [*CODEC, "--decoder-only"], "--decoder-only needs --start-from"),
    ("train_generator", ["--generator", "vqvae_8", *TRAIN], "'vqvae_8'; there are generator_512"),
    ("train_generator", [*GENERATOR, "--vqvae-weights-dir", "folder"], "no weights of vqvae_512"),
    ("train_all", [*TRAIN, "--levels", "512x,64"], "--levels: no level is called '64'"),
    ("benchmark", ["--sizes", "huge", "--quick"], "huge"),
]


@pytest.mark.parametrize("name, argv, message", NAMED,
                         ids=lambda x: x if isinstance(x, str) else " ".join(x[:2]))
def test_a_wrong_name_or_place_is_one_line_and_leaves_nothing(places, tmp_path, capsys, name, argv, message):
    argv = [a.replace("DATA", str(places / "data")).replace("OUT", str(tmp_path / "out"))
            for a in argv]
    place = re.compile(r"(none|folder|text|wrong)(\.\w+)?")
    code, _, stderr = imported.run(
        capsys, name, *[places / a if place.fullmatch(a) else a for a in argv])
    assert code == 2, stderr
    assert message in stderr.splitlines()[-1] and len(stderr.splitlines()[-1]) < 600
    assert "Traceback" not in stderr
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file() and not p.name.startswith(".")]
