"""What commands say at the end: stopped by a signal, nothing learned, and a next step that this machine can do."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from metasiam.cli import run
from metasiam.cli.next_steps import after_quick, compare_on, recognise
from metasiam.learners.guessing import guessing_loss, never_learned
from metasiam.options.data import DataOptions
from metasiam.progress import Progress
from metasiam.progress_lines import Lines
from metasiam.wording import counted


def test_sigterm_ends_in_one_line_with_the_code_of_the_signal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As during an evaluation: what waits for Ctrl-C hears of it too."""
    heard = []

    def working(*arguments: Any, **options: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except KeyboardInterrupt:
            heard.append("KeyboardInterrupt")
            raise

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("metasiam.models.files.load_embedder", working)
    (tmp_path / "weights.pt").touch()
    monkeypatch.chdir(tmp_path)
    assert run(["evaluate", "weights.pt"]) == 143
    assert capsys.readouterr().err == "metasiam: terminated\n"
    assert heard == ["KeyboardInterrupt"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_others_who_handle_sigterm_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of torchrun may wait for others where Python cannot raise: it must end all the same."""
    found = []
    monkeypatch.setattr(
        "metasiam.models.files.load_embedder", lambda *a, **o: found.append(signal.getsignal(signal.SIGTERM))
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    (tmp_path / "weights.pt").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError):
        run(["evaluate", "weights.pt"])  # it gets no embedder
    assert found == [signal.SIG_DFL]


def test_a_next_step_takes_minutes_on_a_cpu() -> None:
    first = after_quick(on_cpu=True, seeds=None, seconds=120)
    assert first.startswith("next: metasiam compare --preset quick --seeds 0,1,2 ")
    assert "about 6 min here" in first
    then = after_quick(on_cpu=True, seeds="0,1,2", seconds=360)
    assert then.startswith("next: metasiam compare --preset quick --data folder:PATH ")
    assert "about 2 min here" in then
    for words in (first, then):
        assert "cifar100" not in words
        assert "--preset published" not in words
    assert "--preset quick --data cifar100 " in after_quick(on_cpu=False, seeds=None, seconds=120)


def test_the_next_step_after_a_look_at_data_fits_them(tiny_domains: Any) -> None:
    """As many domains are held out as there are enough for; pictures of several sizes get the one they are shown at."""
    options, more = DataOptions(), DataOptions(data_dir=Path("kept here"), skip_unreadable=True)
    begin = ["metasiam", "compare", "--preset", "quick", "--data", "folder:a b"]
    few = compare_on("folder:a b", tiny_domains(9, 4), options, several_sizes=False)
    assert few == [*begin, "--held-out", "2", "--validation", "2"]
    assert compare_on("folder:a b", tiny_domains(40, 4), more, several_sizes=True) == [
        *begin, "--data-dir", "kept here", "--image-size", "8", "--skip-unreadable",
    ]  # fmt: skip
    assert compare_on("folder:a b", tiny_domains(7, 4), options, several_sizes=False) is None
    own = DataOptions(held_out=3, validation=0)
    assert compare_on("x", tiny_domains(7, 4), own, several_sizes=False) == [
        *begin[:-1], "x", "--held-out", "3", "--validation", "0",
    ]  # fmt: skip
    large = compare_on("x", tiny_domains(40, 4, size=65), options, several_sizes=False)
    assert large == [*begin[:-1], "x", "--image-size", "32"]


def test_a_folder_that_was_trained_on_can_be_enrolled_itself() -> None:
    assert recognise(Path("r"), "folder:photos") == ["metasiam", "enroll", "photos", "--weights", "r"]
    assert recognise(Path("w.pt"), "glyphs", "resnet20")[2:] == ["DIR", "--weights", "w.pt", "--arch", "resnet20"]


def config(**options: Any) -> dict[str, Any]:
    return {
        "options": options,
        "split": {"seen": list(range(80))},
        "pairs": {"train": {"pairs": 100, "same": 10}},
        "machine": {"device": "cpu"},
    }


def test_the_loss_of_guessing_is_that_of_equal_odds() -> None:
    assert guessing_loss(config(loss="softmax")) == (math.log(80), "80 classes: ln 80")
    for loss in ("prototypes", "classifier", "balanced-softmax"):
        assert guessing_loss(config(loss=loss, ways=5)) == (math.log(5), "5 classes: ln 5")
    entropy = -0.1 * math.log(0.1) - 0.9 * math.log(0.9)
    found = guessing_loss(config(loss="bce"))
    assert found is not None
    assert found[0] == pytest.approx(entropy)
    assert guessing_loss(config(loss="bce", solver="svm")) is None
    assert guessing_loss(config(loss="cosine")) is None
    assert never_learned(config(loss="softmax"), 4.36).startswith(
        "note: the loss ended at 4.36, which is that of guess"
    )
    assert never_learned(config(loss="softmax"), 5.0) != ""
    assert never_learned(config(loss="softmax"), 3.9) == ""


@pytest.mark.parametrize(("loss", "said"), [(4.37, 1), (2.0, 0)])
def test_a_training_that_never_left_guessing_says_so_at_its_end(
    loss: float, said: int, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Lines(Console(width=200))
    shown._config = config(loss="softmax")
    for done in (1, 10):
        shown.training(Progress("triplet", done, 10, loss, 640, 100.0, 3.0, 0.0))
    assert capsys.readouterr().out.count("hardly anything was learned") == said


def test_learn2learn_comes_without_a_word_of_gym() -> None:
    pytest.importorskip("learn2learn")
    code = "from metasiam.interop import learn2learn; learn2learn()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_one_of_a_thing_is_not_said_in_the_plural():
    assert [counted(count, "image") for count in (0, 1, 2, 1200, "1", "all")] == [
        "0 images", "1 image", "2 images", "1,200 images", "1 image", "all images",
    ]  # fmt: skip
