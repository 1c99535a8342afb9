from pathlib import Path

import nbclient
import nbformat
import pytest

from vqwave.io import weights

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "tour.ipynb"


@pytest.fixture(autouse=True)
def quiet_jupyter(monkeypatch, tmp_path):
    """Jupyter keeps to `tmp_path`; trainings run eagerly, and no pitches are measured."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR",
                 "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    startup = tmp_path / "IPYTHONDIR" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "eager.py").write_text(f"""import sys
sys.path.append({str(Path(__file__).parent)!r})
import commands
from vqwave.play import pitches
commands.train_eagerly()
pitches.of_codec = commands.draw_pitches
""")


def run(tmp_path, parameters):
    """Execute it with the first cell of code replaced; the notebook, outputs in it."""
    book = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = [c for c in book.cells if "parameters" in c.metadata.get("tags", ())]
    named = {line.split(" = ")[0] for line in cell.source.splitlines() if " = " in line}
    assert named == set(parameters)
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    client = nbclient.NotebookClient(book, timeout=3600, startup_timeout=600, kernel_name="python3",
                                     resources={"metadata": {"path": str(tmp_path)}})
    return client.execute()


def check(book):
    outputs = [o for c in book.cells if c.cell_type == "code" for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    shown = [o["data"] for o in outputs if "data" in o]
    assert sum("image/png" in data for data in shown) == 7
    assert sum("<audio" in data.get("text/html", "") for data in shown) == 13
    text = "".join(o.text for o in outputs if o.output_type == "stream")
    assert "'jump': 7" in text and "3 tracks, 0 files could not be read" in text


def test_the_notebook_ships_without_outputs():
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    assert not any(c.outputs or c.execution_count for c in book.cells if c.cell_type == "code")


@pytest.mark.large
@pytest.mark.parametrize("seconds, steps", [(2.0, 2), (15.0, 100)])
def test_the_notebook_runs(tmp_path, seconds, steps):
    if not weights.tags(NOTEBOOK.parents[1] / weights.CODECS, "vqvae_512"):
        pytest.skip("no weights ship here")
    song = NOTEBOOK.parents[1] / "docs/results/wesnoth/original.ogg"
    check(run(tmp_path, {"SONG": str(song), "SECONDS": seconds, "MUSIC": None, "STEPS": steps}))
