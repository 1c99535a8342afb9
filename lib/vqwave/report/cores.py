"""Cores compared: generators of the same codes, trained alike, in one table: what they predict, how
fast they are, what they remember and how soon they are heard.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from .. import config, machine
from ..config import Split
from ..io import files, weights
from ..onnx import export
from . import benchmark, tables
from .benchmark import ChainWeights, Effort


def compare(presets: Sequence[str], codecs, folder, data_dir, val_split: float | Split,
            effort: Effort = benchmark.FULL,
            progress: Callable[[int, int, str], None] = lambda done, total, what: None
            ) -> list[dict]:
    """A row for the top generator of each preset, played as a chain of that level alone.

    Args:
        presets: by name or path; codecs: the folder of theirs, which must be the same for all that
            are compared.
        folder: holds a folder of generators for each preset, called as it is.
        data_dir, val_split: prepared music, whose validation tracks are predicted.
        progress: called with (done, total, what) as things are begun.

    Raises:
        UserError: weights or tracks are missing.
    """
    rows, tracks = [], benchmark.find_held_out(data_dir, val_split)
    for done, name in enumerate(presets):
        progress(done, len(presets), f"measuring {name}")
        chain = _chain(name, Path(codecs), Path(folder) / Path(name).stem)
        level = chain.chain.top
        found = chain.generator_weights(level)
        for one in (found, chain.codec_weights(level)):
            for kind in export.kinds(one, "onnx"):
                export.cached_graph(one, kind)
        predicted = benchmark.accuracy(chain, level, data_dir, tracks, effort)
        steps = benchmark.steps(chain, level, effort, ["onnx"])
        begun = benchmark.start(chain, level, effort)
        (memory,) = benchmark.remember(chain, level, effort)
        rows.append({
            "preset": name, "core": found.config.core.kind,
            "parameters": sum(math.prod(array.shape) for part in found.files
                              for array in found.load(part).values()),
            "trained_steps": found.record.get("step"),
            "codes": predicted["codes"], "bits": predicted["bits_float32"],
            "bits_int8": predicted.get("bits_int8"),
            "codes_per_s": {str(row["streams"]): row["codes_per_s"] for row in steps},
            "state_bytes": steps[0]["state_bytes"], "checksum": found.checksum[:16],
            **{key: memory[key] for key in ("minutes", "peak_bytes", "growth_bytes", "rtf")},
            **{key: begun[key] for key in ("warm_first_block_s", "cold_sound_s")}})
    progress(len(presets), len(presets), "done")
    return rows


def _chain(name: str, codecs: Path, folder: Path) -> ChainWeights:
    """The top level of a preset as a chain of its own, with the weights in `folder`."""
    whole = config.preset(name).chain
    alone = config.replace(whole, levels=[config.to_dict(whole.levels[0])], end=None)
    made = ChainWeights(name, alone, codecs, folder, {"generators": str(folder)}, None)
    made.generator_weights(alone.top)  # refuses a folder that has none
    weights.add_chain(folder, alone)
    return made


def write(rows: Sequence[dict], name: str, folder) -> list[Path]:
    """The rows as `cores_NAME.json`, and as a table between the markers of that name in the page
    that shows what is in `folder`, if it has such. Returns the paths.
    """
    folder = files.make_folder(folder)
    label, cpu = f"benchmark.py --cores: {name}", machine.describe()["cpu"]
    markers = f"<!-- {label} -->", f"<!-- {label}, end -->"
    text = json.dumps({"cpu": cpu, "rows": rows}, indent=1) + "\n"
    contents = {folder / f"cores_{name}.json": text}
    if page := benchmark.find_page(folder, markers):
        text = f"\n{markdown(rows)}\n\nMeasured on {cpu}.\n"
        contents[page] = benchmark.insert(page.read_text(encoding="utf-8"), text, markers)
    for path, content in contents.items():
        with files.atomic_write(path) as file:
            file.write(content.encode())
    return list(contents)


def markdown(rows: Sequence[dict]) -> str:
    """The rows as a table of Markdown."""
    streams = list(dict.fromkeys(n for row in rows for n in row["codes_per_s"]))
    head = ["preset", "core", "parameters", "steps", "bits a frame", "in int8",
            *(f"codes/s, {n}" for n in streams), "a stream remembers", "peak memory", "growth",
            "first block", "first sound"]
    return tables.render([(
        row["preset"], row["core"], f"{row['parameters'] / 1e6:.1f} million",
        "" if row["trained_steps"] is None else f"{row['trained_steps']:,}", f"{row['bits']:.3f}",
        "" if row["bits_int8"] is None else f"{row['bits_int8']:.3f}",
        *(f"{row['codes_per_s'][n]:,.0f}" if n in row["codes_per_s"] else "" for n in streams),
        f"{row['state_bytes'] / 1e3:,.1f} KB", f"{row['peak_bytes'][-1] / 2**20:.0f} MiB",
        "" if row["growth_bytes"] is None else f"{row['growth_bytes'] / 2**20:.2f} MiB",
        f"{row['warm_first_block_s']:.2f} s", f"{row['cold_sound_s']:.2f} s") for row in rows],
                         head)
