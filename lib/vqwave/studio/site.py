"""Writes a folder of static files that plays a chain in the browser; see docs/web.md."""

import dataclasses
import functools
import gzip
import hashlib
import importlib.metadata
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from ..codecs import WHOLE_SHARE
from ..data import melody
from ..dsp import notes
from ..errors import UserError
from ..export import export
from ..export.loops import OPSET, loop_kind
from ..export.nodes import FLOAT, Nodes, tensors
from ..generators import ScoreAbove, composer
from ..io.files import CHECKOUT, atomic_write, cache_folder, make_folder, printable, unpack
from ..levels import SCORE, level_name
from ..play import (
    blocks,
    controls,
    decoder,
    harmony,
    labels,
    level,
    pitches,
    playback,
    sampling,
    score,
    spreads,
)
from ..play.sampling import levels_by_field
from . import limits, pictures, web
from .guard import HostGuard
from .names import ADJECTIVES, NOUNS
from .take import WILDEST, describe_level
from .web import STATIC

ONNXRUNTIME_WEB = "onnxruntime-web@1.30.0"
PACKAGE_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
_MEMBERS = {"ort.js": "package/dist/ort.wasm.bundle.min.mjs",
            "ort.wasm": "package/dist/ort-wasm-simd-threaded.wasm"}
BROWSER = Path(__file__).parent / "browser"
"""The files of the site that are missing in the studio, or differ from it."""
SHARED = ("beat.js", "dom.js", "edit.js", "history.js", "keys.js", "midi.js", "pictures.js",
          "player.js", "ring.js", "sound.js", "turns.js", "theme.js", "studio.css", "icon.svg",
          "palettes.json")
HEADERS = {
    # The first two allow threads. The page itself has the content security policy.
    "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin", "x-content-type-options": "nosniff",
    "cache-control": "no-cache"}
LATENCY = playback.LATENCIES["page"]
CONDITIONS = "codes", "labels", "score"
"""The kinds of conditions whose inputs `browser/level.js` makes."""
CODE, MODELS, FACTS_FILE = "studio/static", "models", "site.json"


def runtime(package=None) -> Path:
    """The folder with ONNX Runtime Web's two files. If they are not cached, npm downloads them.
    package: a file from `npm pack`.
    """
    folder = cache_folder() / ONNXRUNTIME_WEB.replace("@", "-")
    extract = functools.partial(unpack, checksum=PACKAGE_SHA256, folder=folder, members=_MEMBERS,
                                what=f"the package {ONNXRUNTIME_WEB}")
    if package is not None:
        extract(package)
    elif not all((folder / name).is_file() for name in _MEMBERS):
        print(f"downloading ONNX Runtime for browsers ({ONNXRUNTIME_WEB}, 33 MB), once",
              file=sys.stderr)
        with tempfile.TemporaryDirectory() as temporary:
            extract(_download(temporary))
    return folder


def _download(folder: str) -> Path:
    npm, error = shutil.which("npm"), "npm is not installed"
    if npm:
        result = subprocess.run([npm, "pack", ONNXRUNTIME_WEB, "--silent",  # noqa: S603
                                 "--pack-destination", folder],
                                capture_output=True, text=True, check=False)
        if not result.returncode:
            return next(Path(folder).glob("*.tgz"))
        error = (result.stderr.strip().splitlines() or ["no message from npm"])[-1]
    raise UserError(f"{ONNXRUNTIME_WEB} could not be downloaded ({error}); on a machine with npm "
                    f"and a network: npm pack {ONNXRUNTIME_WEB}, and name the .tgz file here with "
                    f"--runtime FILE")


def store_as_float16(graph: bytes, exactly: bool) -> bytes:
    """The graph with large float32 weights stored as float16, each followed by a Cast. exactly:
    only weights that float16 represents exactly.
    """
    import onnx
    from onnx import helper, numpy_helper

    def visit(graph):
        casts = []
        for weights in graph.initializer:
            if weights.data_type != onnx.TensorProto.FLOAT:
                continue
            name, values = weights.name, numpy_helper.to_array(weights)
            with np.errstate(over="ignore"):
                halves = values.astype(np.float16)
            same = np.array_equal(halves.astype(np.float32), values)
            if values.size < 1024 or not (np.isfinite(halves).all() if not exactly else same):
                continue
            weights.CopyFrom(numpy_helper.from_array(halves, f"{name}_half"))
            casts.append(helper.make_node("Cast", [weights.name], [name],
                                          to=onnx.TensorProto.FLOAT))
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    visit(attribute.g)
        nodes = [*casts, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)

    model = onnx.load_from_string(graph)
    visit(model.graph)
    return model.SerializeToString()


def picture_graph(rate: int, column: int) -> bytes:
    """The graph of `pictures.Spectrum`: audio float32 [1, n, 1] -> uint8 [1, columns, bands]. The
    first column is centred on the middle of the first window.
    """
    from onnx import helper

    graph, size = Nodes("picture_"), pictures.window(rate)
    hann = np.hanning(size + 1)[:-1].astype(np.float32)
    waves = graph("STFT", "audio", np.int64(column), hann, np.int64(size))
    power = graph("ReduceSumSquare", waves, [3], keepdims=0)
    energy = graph("Max", graph("MatMul", power, pictures.note_filters(rate, size)),
                   np.float32(1e-18))
    scale, loudest = 255 / pictures.RANGE_DB, pictures.LOUDEST_DB
    shade = graph("Add", graph("Mul", graph("Log", energy), np.float32(scale * 10 / math.log(10))),
                  np.float32(255 - scale * loudest))
    shade = graph("Round", graph("Clip", shade, np.float32(0), np.float32(255)))
    graph.node("Cast", shade, outputs=["columns"], to=2)
    sound = tensors({"audio": (FLOAT, [1, None, 1])})
    columns = tensors({"columns": (2, [1, None, pictures.PICTURE_BANDS])})
    return helper.make_model(
        helper.make_graph(graph.nodes, "picture", sound, columns, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9).SerializeToString()


def constants(place, names: str) -> dict:
    """Constants of a module or class for the page: {name: value}."""
    return {name.lower(): getattr(place, name) for name in names.split()}


class Site:
    """The files of a site by path. about: the data for the page."""

    def __init__(self, music, package=None):
        engines = music.chain_engines()
        self.codec, generators = engines.codec, engines.generators
        for config in engines.configs:
            for kind in {condition.kind for condition in config.conditions} - {*CONDITIONS}:
                raise UserError(f"{config.name} has a condition of kind {kind}; a page plays only "
                                f"{', '.join(CONDITIONS)}")
        self.sampled = levels_by_field([generator.config for generator in generators])
        self.composer = next((g for g in generators if g.config.level == SCORE), None)
        self.generators = [g for g in generators if g is not self.composer]
        self.configs = [generator.config for generator in self.generators]
        if not self.codec.config.head.makes_audio:
            raise UserError(f"{self.codec.config.name} needs a vocoder, which a browser does not "
                            f"have")
        self.files: dict[str, bytes] = {}
        self.packed: dict[str, int] = {}  # bytes by path
        package = runtime(package)
        self.files[f"{CODE}/ort.js"] = (package / "ort.js").read_bytes()
        self.about = self._constants(music) | {
            "wasm": self.pack("ort.wasm", (package / "ort.wasm").read_bytes()),
            "levels": [self._model(generator, pitches=music.pitches(generator.config.level))
                       for generator in self.generators],
            "codec": self._codec(), "score": self.composer and self._score(),
        }

    def pack(self, name: str, content: bytes) -> str:
        """Store a large file, compressed. Returns its path, which changes with the content."""
        digest = hashlib.sha256(content).hexdigest()[:12]
        path = f"{MODELS}/{name}.{digest}.packed"
        self.files[path] = gzip.compress(content, 9, mtime=0)
        self.packed[path] = len(self.files[path])
        return path

    def _constants(self, music) -> dict:
        chain, trained = music.chain, self.configs[0].labels
        absent = "guidance", "transpose", "stay", "mood", "begin", "weights"
        keys = [f"{letter}{accidental}{between}{mode}" for letter in "ABCDEFG"
                for accidental in ("", "#", "b") for between in "- " for mode in harmony.SCALES]
        rate, column = chain.sample_rate, pictures.column(chain.sizes)
        about = {"rate": rate, "block": LATENCY.samples(chain), "column": column,
                 "labels": list(trained.groups if trained else ())}
        return about | constants(blocks, "SEAM PASSAGE RAMP") | {
            "cross_fade": labels.CROSS_FADE, "beats_of_fade": labels.BEATS_OF_FADE,
            "quietest": controls.QUIETEST,
            "loudest": controls.LOUDEST, "least_source": level.LEAST_SOURCE,
            "ahead": LATENCY.ahead,
            "pitch_floor": pitches.FLOOR, "past": limits.PAST, "kept": self._kept(),
            "words": (ADJECTIVES, NOUNS),
            "wildest": WILDEST,
            "take": about | self._take(music),
            "parts": bool(trained and trained.are_parts) and {
                "sections": labels.SECTIONS, "track_draw": sampling.TRACK_DRAW,
                "part_draw": sampling.PART_DRAW},
            "controls": [dataclasses.asdict(control) for name, control in controls.CONTROLS.items()
                         if (control.sampled or control.slider) and name not in absent],
            "names": [name for name in controls.NAMES if name not in absent],
            "keys": {key: harmony.read_key(key) for key in keys},
            "key_draw": sampling.KEY_DRAW, "chords": harmony.CHORDS,
            "moods": controls.MOODS | {"no mood": controls.NO_MOOD},
            "leveling": constants(blocks, "LEVELED_TO LEVELED MOST_LEVELED REMEMBERED PRIOR LEAST "
                                          "PEAK"),
            "picture": {"graph": self.pack("picture.onnx", picture_graph(rate, column)),
                        "window": pictures.window(rate), "bands": pictures.PICTURE_BANDS,
                        "note": -15.0},  # dB at which notes of a score are drawn
        }

    def _take(self, music) -> dict:
        """The data of every piece for the page's player; see `Take.header`."""
        return {
            "id": "piece", "level": self.configs[-1].level, "samples": None,
            "prompt": 0, "local": True, "score": bool(self.composer),
            "sampled": self.sampled,
            "bands": pictures.PICTURE_BANDS, "lowest": notes.LOWEST_MIDI,
            "chain": [config.level for config in self.configs],
            "levels": [describe_level(codec.config, True, pictures.shades(codec))
                       for codec in (music.codec(config.level) for config in self.configs)]}

    def _kept(self) -> float:
        """Seconds of codes to keep for a freeze, the decoder and lower levels, with a margin."""
        frames = self.codec.decode_halo + self.codec.decode_past
        reach = frames * self.codec.config.level + sum(
            2 * (config.source.halo + level.LEAST_SOURCE) * config.source_level
            for config in self.configs if config.source)
        return limits.PAST + reach / self.codec.config.sample_rate + 2.0

    def _model(self, generator, **tables) -> dict:
        """The data for playing one generator. tables: float32 arrays, or None."""
        config = generator.config
        kinds = {"loop": loop_kind(generator.precision, 1, True), "context": "context"}
        return {
            "graphs": {name: self.pack(f"{config.name}_{name}.onnx", store_as_float16(
                export.cached_graph(generator.weight_set, kind), exactly=True))
                       for name, kind in kinds.items() if name == "loop" or config.conditions},
            "tables": {name: self.pack(f"{config.name}_{name}", np.float32(values).tobytes())
                       for name, values in tables.items() if values is not None},
            "name": level_name(config.level), "level": config.level, "books": config.books,
            "num_codes": config.num_codes, "start": config.start_token,
            "states": list(config.states.items()),
            "nearest": config.core.NEAREST if config.core.performs else None,
            "conditions": [
                {"kind": c.kind, "input": c.input, "ratio": config.ratio, "width": c.shape[-1]}
                | {name: getattr(c, name) for name in ("halo", "books", "no_score", "num_codes")
                   if hasattr(c, name)} for c in config.conditions],
            "sampling": config.sampling.model_dump(),
            "labels": config.labels and {
                "names": config.labels.names, "groups": list(config.labels.groups.items()),
                "whole": WHOLE_SHARE},
        }

    def _codec(self) -> dict:
        import onnx

        codec, config = self.codec, self.codec.config
        kind = "decode_part" if codec.splits else "decode"
        graph = store_as_float16(export.cached_graph(codec.weight_set, kind), exactly=False)
        facts = {entry.key: entry.value for entry in onnx.load_from_string(graph).metadata_props}
        part = ("decode_near", "decode_delay", "decode_window", "state") if codec.splits else ()
        sees = decoder.Decoder(codec, None, decoder.DecoderState(), None, LATENCY.ahead)
        return {"graph": self.pack(f"{config.name}_decode.onnx", graph), "level": config.level,
                "halo": codec.decode_halo, "past": codec.decode_past, "beyond": sees.beyond,
                "assumed": sees.assumed, "smooth": sees.smooth,
                "period": int(facts["period"]), "splits": codec.splits,
                **{name.removeprefix("decode_"): int(facts[name]) for name in part}}

    def _score(self) -> dict:
        trained = labels.known_labels(self.configs[:1])
        registers, loudness = spreads.of_chain(self.composer.corpus, trained) or (None, None)
        return {
            "model": self._model(self.composer, ngrams=np.array(
                sorted(self.composer.ngrams), np.uint32).view(np.float32),
                levels=self.composer.corpus["levels"],
                level_counts=self.composer.corpus["level_counts"],
                **{f"{name}_{table}": spread and getattr(spread, table)
                   for name, spread in (("registers", registers), ("loudness", loudness))
                   for table in ("shares", "blur")}),
            **{name: float(self.composer.corpus[name][0]) for name in ("strikes", "returns")},
            "loudness": spreads.shares_of_loudness(self.composer.corpus).tolist(),
            "tempi": self.composer.corpus["tempi"].tolist(),
            "section_beats": score.SECTION_BEATS,
            "tempo": sampling.TEMPO_DRAW, "plan": sampling.PLAN_DRAW,
            "density_draw": sampling.DENSITY_DRAW, "loudness_draw": sampling.LOUDNESS_DRAW,
            **constants(melody, "ORDER BASE"),
            **constants(spreads, "PULL AWAITED MOST_MOVED"),
            **constants(score, "UPBEAT LONGEST_UPBEAT SOON KEPT RECALL SECTION_DENSITIES DENSITY "
                               "DENSITY_IN_CHORDS GOVERNED GOVERNOR MOST_PUSHED SAFEST "
                               "LEAST_ATTACKS ATTACKED "
                               "ATTACKS_BY_DENSITY MOST_SHARE WATCHED OVERUSE BANNED COLDEST "
                               "SUSTAINED"),
            **constants(harmony, "OUTSIDE KEY_AWAITED"),
            **constants(ScoreAbove, "LOWEST PHASES OLDEST AGES RINGING QUIETEST"),
            **constants(composer, "STRUCK SOUNDING BANDS STEPS_PER_BEAT")}

    def write(self, folder) -> int:
        """Write the site into a folder; returns the bytes that a first visit transfers."""
        files = self.files
        for path in [STATIC / name for name in SHARED] + list(BROWSER.glob("*.js")):
            files[f"{CODE}/{path.name}"] = path.read_bytes()
        files["index.html"] = _page((STATIC / "index.html").read_text(encoding="utf-8")).encode()
        files["licences.txt"] = _licences().encode()
        files[FACTS_FILE] = json.dumps(self.about | {"files": self.packed}).encode()
        worker = files.pop(f"{CODE}/sw.js")
        digest = hashlib.sha256(b"".join(files[path] for path in sorted(files))).hexdigest()
        about = {"version": digest, "code": ["./", *sorted(files.keys() - self.packed.keys())],
                 "models": list(self.packed)}
        files["sw.js"] = f"const SITE = {json.dumps(about)};\n".encode() + worker
        _write(Path(folder), files)
        return sum(map(len, files.values()))


def _page(html: str) -> str:
    """The studio's page without the studio's parts, and with the site's parts."""
    html = re.sub(r"<!-- studio -->.*?<!-- /studio -->", "", html, flags=re.DOTALL)
    return re.sub(r"<!-- site\b(.*?)-->", r"\1", html, flags=re.DOTALL)


def _licences() -> str:
    """The licences of the site's files."""
    names = "LICENSE", "NOTICE", "Apache-2.0.txt", "GPL-2.0.txt", "GPL-3.0.txt"
    own = [path for folder in (CHECKOUT, CHECKOUT / "LICENSES") for name in names
           if (path := folder / name).is_file()] or [
        Path(file.locate()) for file in importlib.metadata.files("vqwave") if file.name in names]
    texts = [path.read_text(encoding="utf-8") for path in (BROWSER / "licences.txt", *own)]
    return ("\n\n" + "=" * 80 + "\n\n").join(texts)


def check(folder):
    """Raises `UserError` unless a folder is new, empty or an earlier site."""
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FACTS_FILE).is_file():
        raise UserError(f"{printable(folder)}: holds other files; name a new folder for the site")
    make_folder(folder)


def _write(folder: Path, files: dict[str, bytes]):
    for path, content in files.items():
        with atomic_write(make_folder((folder / path).parent) / Path(path).name) as file:
            file.write(content)
    for model in set((folder / MODELS).glob("*.packed")) - {folder / path for path in files}:
        model.unlink()


def build(folder, host: str = "127.0.0.1"):
    """The ASGI application that serves a site's folder for a host."""
    files = Mount("/", StaticFiles(directory=folder, html=True))
    return HostGuard(Starlette(routes=[files]), host, HEADERS)


def serve(folder, host: str, port: int, say=print):
    """Serve a site until Ctrl-C. Port 0 takes a free port. Raises as `web.listen`."""
    listening = web.listen(host, port)
    say(f"The site is at {web.address(host, listening)} (Ctrl-C ends it)")
    web.serve(web.configure(build(folder, host), access_log=False), listening)
