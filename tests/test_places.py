"""What may be written where: every kind of folder, over everything that can be there already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metasiam.errors import MetaSiamError
from metasiam.runs import check_measured, check_new, check_new_file, clear, fresh_folder
from metasiam.runs.locks import run_held
from metasiam.runs.places import COMPARISON, EVALUATION, KINDS, RUN, SEARCH, SWEEP, Kind, kind_of

NAMES = {kind: kind.noun.replace(" ", "-") for kind in KINDS}
STATES = ("nothing", "empty", "lock", "finished", "unfinished", "other", "foreign", "alike", "file")


def contents(path: Path) -> dict[str, bytes]:
    return {str(one.relative_to(path)): one.read_bytes() for one in path.rglob("*") if one.is_file()}


def fill(path: Path, kind: Kind, *, finished: bool) -> None:
    """Write what such a folder has; a run's ``config.json`` names its method."""
    path.mkdir()
    for name in kind.files if finished else (kind.markers[0], *kind.resumable[:1]):
        (path / name).write_text(json.dumps({"options": {"method": "triplet"}}))
    for name in kind.folders if finished else ():
        (path / name).mkdir()
        (path / name / "of-it.svg").write_text("<svg/>")


def make(path: Path, kind: Kind, state: str) -> None:
    """Bring a place into a state, as seen by the kind that is to be written there."""
    if state in ("finished", "unfinished"):
        fill(path, kind, finished=state == "finished")
    elif state == "other":
        fill(path, COMPARISON if kind is not COMPARISON else SWEEP, finished=True)
    elif state == "file":
        path.write_text("a letter")
    elif state != "nothing":
        path.mkdir()
    if state == "lock":
        (path / ".lock").touch()
    if state == "foreign":
        (path / "thesis.tex").write_text("years of work")
    if state == "alike":  # somebody's own file of a name that is ours too
        (path / next(name for name in kind.files if name not in kind.markers)).write_text("years of work")


#: The refusal without --overwrite, with it, and when one goes on; empty: it is let through.
EXPECTED: dict[str, tuple[str, str, str]] = {
    "nothing": ("", "", ""),
    "empty": ("", "", ""),
    "lock": ("", "", ""),
    "finished": ("--overwrite", "", ""),
    "unfinished": ("--overwrite", "", ""),
    "other": ("not a", "not a", "not a"),
    "foreign": ("is not empty and does not contain", "", "is not empty and does not contain"),
    "alike": ("is not empty and does not contain", "but no", "is not empty and does not contain"),
    "file": ("is a file", "is a file", "is a file"),
}


def expected(kind: Kind, state: str, how: int) -> str:
    """Return the words of the refusal; two kinds differ from the others where their commands do."""
    if kind is EVALUATION and state == "foreign":
        return ""  # written beside other files
    if kind is EVALUATION and state == "alike":
        return "but no evaluation"
    if kind is SEARCH and state in ("finished", "unfinished") and how < 2:
        return "holds a search. Use --resume"  # its command has no --overwrite
    return EXPECTED[state][how]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", KINDS, ids=NAMES.get)
def test_a_folder_is_written_where_nothing_of_anybody_else_is(tmp_path, kind, state):
    path = tmp_path / "out"
    make(path, kind, state)
    before = contents(tmp_path)
    for how, options in enumerate(({}, {"overwrite": True}, {"goes_on": True})):
        words = expected(kind, state, how)
        if words:
            with pytest.raises(MetaSiamError) as refused:
                check_new(kind, path, **options)
            assert words in str(refused.value)
            assert str(path) in str(refused.value)
            assert "another --out" in str(refused.value) or "Choose a folder" in str(refused.value)
        else:
            check_new(kind, path, **options)
        assert contents(tmp_path) == before  # looking changes nothing


@pytest.mark.parametrize("kind", KINDS, ids=NAMES.get)
def test_a_folder_is_known_by_its_marker_and_clearing_it_spares_the_rest(tmp_path, kind):
    path = tmp_path / "out"
    fill(path, kind, finished=True)
    assert kind_of(path) is kind
    (path / "thesis.tex").write_text("years of work")
    (path / f".{kind.files[0]}.999.partial").write_text("of a process that was killed")
    clear(kind, path)
    assert contents(path) == {"thesis.tex": b"years of work"}
    assert kind_of(path) is None
    clear(kind, tmp_path / "nothing there")


@pytest.mark.parametrize("kind", KINDS, ids=NAMES.get)
def test_nothing_of_another_kind_is_cleared(tmp_path, kind):
    path = tmp_path / "out"
    make(path, kind, "other")
    before = contents(path)
    with pytest.raises(MetaSiamError, match="not a"):
        clear(kind, path)
    assert contents(path) == before


def test_refusals_say_how_to_go_on(tmp_path):
    for kind, state, words in (
        (
            RUN,
            "finished",
            "holds a finished run. Use --resume {path} to look at it again, --overwrite to start over",
        ),
        (
            RUN,
            "unfinished",
            "holds an unfinished run. Use --resume {path} to continue it, --overwrite to start over",
        ),
        (COMPARISON, "unfinished", "holds an unfinished comparison. Use --resume {path} to continue it, --overwrite"),
        (SWEEP, "finished", "holds a finished sweep. Use the same command to look at it again, --overwrite"),
        (SEARCH, "unfinished", "holds a search. Use --resume {path} to continue it, or another --out."),
        (EVALUATION, "finished", "holds an evaluation. Use --overwrite to replace it, or another --out."),
    ):
        path = tmp_path / f"{NAMES[kind]}-{state}"
        make(path, kind, state)
        with pytest.raises(MetaSiamError) as refused:
            check_new(kind, path)
        assert words.format(path=path) in str(refused.value)
    (tmp_path / "comparison-unfinished" / "comparison.json").rename(tmp_path / "comparison-unfinished" / "compare.json")
    with pytest.raises(MetaSiamError, match="holds a comparison. Use --overwrite to replace it, or another --out."):
        check_new(COMPARISON, tmp_path / "comparison-unfinished")
    (tmp_path / "run-unfinished" / "checkpoint.pt").unlink()
    with pytest.raises(MetaSiamError, match="holds a run that never saved anything. Use --overwrite to start over"):
        check_new(RUN, tmp_path / "run-unfinished")


@pytest.mark.parametrize("config", ['{"name": "my own"}', "not JSON"])
def test_somebodys_own_config_is_no_run(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(MetaSiamError, match="holds config.json but no run, and --overwrite replaces runs only"):
        check_new(RUN, tmp_path, overwrite=True)
    (tmp_path / "checkpoint.pt").touch()
    if config == "not JSON":  # torn, but with its checkpoint
        check_new(RUN, tmp_path, overwrite=True)


def test_what_is_being_trained_into_is_not_overwritten(tmp_path):
    fill(tmp_path / "out", RUN, finished=True)
    with run_held(tmp_path / "out"), pytest.raises(MetaSiamError, match="is being trained by another process"):
        check_new(RUN, tmp_path / "out", overwrite=True)


def test_a_run_gets_its_evaluation_beside_its_weights(tmp_path):
    fill(tmp_path / "run", RUN, finished=False)
    check_measured(tmp_path / "run", overwrite=False)
    (tmp_path / "run" / "tasks.csv").write_text("mine")
    with pytest.raises(MetaSiamError, match="holds tasks.csv. Use --overwrite to replace it"):
        check_measured(tmp_path / "run", overwrite=False)
    (tmp_path / "run" / "evaluation.json").write_text("{}")
    with pytest.raises(MetaSiamError, match="holds an evaluation. Use --overwrite to replace it"):
        check_measured(tmp_path / "run", overwrite=False)
    check_measured(tmp_path / "run", overwrite=True)


def test_a_fresh_folder_is_one_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(3):
        folder = fresh_folder("triplet")
        assert folder.parent == Path("runs")
        assert not folder.exists()
        folder.mkdir(parents=True)
        names.append(folder.name)
    assert len(set(names)) == 3
    assert all(name.startswith("triplet-20") for name in names)


def test_a_single_file_is_not_replaced_unasked(tmp_path):
    file = tmp_path / "answers.csv"
    check_new_file(file, overwrite=False)
    file.write_text("before")
    with pytest.raises(MetaSiamError, match=r"answers.csv exists already. Use --overwrite to replace it, or choose"):
        check_new_file(file, overwrite=False)
    check_new_file(file, overwrite=True)
    for overwrite in (False, True):
        with pytest.raises(MetaSiamError, match="is a folder. Name a file in it"):
            check_new_file(tmp_path, overwrite=overwrite)
        with pytest.raises(MetaSiamError, match="none is not a folder. Create it"):
            check_new_file(tmp_path / "none" / "answers.csv", overwrite=overwrite)
