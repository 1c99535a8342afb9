"""notebooks/tour.ipynb runs from the top to the bottom, on music of its own making."""

from pathlib import Path

import nbclient
import nbformat
import pytest

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "tour.ipynb"


@pytest.fixture(autouse=True)
def quiet_jupyter(monkeypatch, tmp_path):
    """Jupyter neither reads nor writes the settings of whoever runs the tests; short trainings run
    eagerly.
    """
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR",
                 "JUPYTER_RUNTIME_DIR", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    startup = tmp_path / "IPYTHONDIR" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "eager.py").write_text(f"""import sys
sys.path.append({str(Path(__file__).parent)!r})
import commands
commands.train_eagerly()
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
    shown = [key for o in outputs for key in o.get("data", {})]
    assert shown.count("image/png") == 6
    text = "".join(o.text for o in outputs if o.output_type == "stream")
    assert "generator_128: all " in text and "0 files could not be read" in text
    return "".join(o["data"]["text/html"] for o in outputs
                   if "text/html" in o.get("data", {})).count("<audio")


def test_it_ships_without_outputs():
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    assert not any(c.outputs or c.execution_count for c in book.cells if c.cell_type == "code")


def test_it_runs_in_small(tmp_path):
    parts = {"MUSIC": None, "STEPS": 4, "SECONDS": 1.0, "SHIPPED": False}
    assert check(run(tmp_path, parts)) == 8


@pytest.mark.large
def test_it_runs_as_it_is(tmp_path):
    parts = {"MUSIC": None, "STEPS": 400, "SECONDS": 8.0, "SHIPPED": True}
    assert check(run(tmp_path, parts)) == 9
