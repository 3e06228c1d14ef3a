"""What cannot work is said before torch is imported: 3 s of work are not done to say that a folder is not there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

#: In one process, where importing torch fails: command → its exit code (or what was raised) and its lines on stderr.
_REFUSED = """
import contextlib, io, json, sys
sys.modules["torch"] = None
from metasiam.cli import run

found = {}
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            code = run(command.split())
        except ImportError as error:
            code = str(error)
    found[command] = [code, said.getvalue().splitlines()]
print(json.dumps(found))
"""

CASES = {
    "triplet --out full": "full is not empty and does not contain a run",
    "triplet --out file": "--out file is a file",
    "triplet --out run": "run holds an unfinished run. Use --resume run to continue it",
    "reptile --out full": "full is not empty and does not contain a run",
    "protonet --out full": "full is not empty and does not contain a run",
    "triplet --resume nowhere": "nowhere is not a run folder",
    "reptile --resume run": "run was trained with triplet",
    "triplet --init nowhere": "nowhere does not exist",
    "triplet --lr -1": "--lr must be a positive number, not -1",
    "triplet --arch none": "--arch none is unknown",
    "triplet --held-out -1": "--held-out must not be negative, not -1",
    "triplet --validation -1": "--validation must not be negative, not -1",
    "triplet --split nowhere.json": "--split nowhere.json cannot be read (No such file or directory)",
    "siamese --out full": "full is not empty and does not contain a run",
    "siamese --out file": "--out file is a file",
    "siamese --resume nowhere": "nowhere is not a run folder",
    "compare --out full": "full is not empty and does not contain a comparison",
    "compare --out run": "run holds a run, not a comparison",
    "compare --methods none": "method none is unknown",
    "compare --resume nowhere": "nowhere does not contain a comparison to resume",
    "compare nowhere run": "nowhere is not a run folder",
    "sweep --out full": "full is not empty and does not contain a sweep",
    "sweep --methods none": "method none is unknown",
    "sweep --splits all": "--splits all is not a list of whole numbers",
    "tune --try lr=0.1 --out full": "full is not empty and does not contain a search",
    "tune --try lr=0.1 --resume nowhere": "nowhere does not contain a search to resume",
    "evaluate nowhere": "nowhere does not exist",
    "evaluate full": "full does not contain embedder.safetensors",
    "evaluate file --out run": "run holds a run, not an evaluation",
    "enroll nowhere --weights file": "nowhere does not exist. Pass picture files, or folders of them",
    "enroll full --weights nowhere": "nowhere does not exist. Pass a run folder or a weights file",
    "enroll --gallery nowhere.safetensors": "nowhere.safetensors does not exist yet",
    "identify full --gallery nowhere.safetensors": "nowhere.safetensors does not exist. Make it with",
    "identify nowhere --gallery file": "nowhere does not exist. Pass picture files, or folders of them",
    "identify full --gallery file --out nowhere/a.csv": "nowhere is not a folder",
    "match nowhere file": "nowhere is not a file. Pass two pictures",
    "match file file --weights nowhere": "nowhere does not exist. Pass a run folder or a weights file",
    "data show none": "the data source 'none' is not known",
    "data show folder:nowhere": "nowhere is not a folder that can be read",
    "data show glyphs --out file": "file exists already. Use --overwrite to replace it",
    "data fetch none": "the data source 'none' is not known",
    "draw --weights nowhere": "nowhere does not exist. Pass a run folder or a weights file",
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int | str, list[str]]]:
    folder = tmp_path_factory.mktemp("refused")
    for name in ("full/thesis.tex", "file", "run/checkpoint.pt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("years of work")
    (folder / "run/config.json").write_text('{"options": {"method": "triplet"}}')
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    command = [sys.executable, "-c", _REFUSED, json.dumps(list(CASES))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert before == {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    found: dict[str, tuple[int | str, list[str]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("command", CASES)
def test_what_cannot_work_is_said_in_a_line_without_torch(refused, command):
    code, lines = refused[command]
    assert code == 2, code
    assert len(lines) == 1, lines
    assert lines[0].startswith("metasiam: ")
    assert CASES[command] in lines[0]
