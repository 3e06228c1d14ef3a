"""What a newcomer sees: every quick preset and README's own comparison end well above chance."""

import json
import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

import metasiam as ms
from metasiam.cli import run
from metasiam.methods import names, options_class
from metasiam.options.presets import preset_options

ROOT = Path(__file__).resolve().parents[1]


def quick_command() -> list[str]:
    """The arguments of the comparison in README's first command."""
    block = re.search(r"<!-- ci: quick -->\n```bash\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    assert block is not None
    return shlex.split(block[1].strip().rpartition("&&")[2])[1:]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """The compare.json of README's first command: of ``$METASIAM_QUICK`` where CI has made it already."""
    if "METASIAM_QUICK" in os.environ:
        return json.loads((Path(os.environ["METASIAM_QUICK"]) / "compare.json").read_text("utf-8"))
    folder = tmp_path_factory.mktemp("quick")
    arguments = quick_command()
    arguments[arguments.index("--out") + 1] = str(folder / "quick")
    assert run(arguments) == 0
    return json.loads((folder / "quick" / "compare.json").read_text("utf-8"))


def triplets(evaluation, shots):
    return evaluation["held_out"]["closed"][shots]["triplet_accuracy"]["mean"]


@pytest.mark.slow
def test_readmes_first_command_convinces(comparison):
    classic, reptile = comparison["methods"]["triplet"], comparison["methods"]["reptile"]
    assert triplets(classic, "0") > 85
    assert triplets(reptile, "0") > triplets(classic, "0") - 3
    for method in (classic, reptile):
        assert triplets(method, "5") > triplets(method, "0") + 0.3  # 1.4 to 2.4 on the machines tried
        assert method["held_out"]["episodes"]["5-way 1-shot"]["mean"] > 55  # guessing: 20
        assert method["held_out"]["closed"]["5"]["pair_accuracy"]["per_task"]["mean"] > 78  # guessing: 50


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(name for name in names() if "quick" in options_class(name).presets))
def test_every_quick_preset_learns_to_tell_unseen_glyphs_apart(method, tmp_path):
    data, options = preset_options("quick", method)
    domains = ms.load_domains(data["data"])
    split = ms.split_domains(domains, held_out=10, validation=data["validation"])
    if method in ("maml", "anil"):
        pytest.importorskip("learn2learn")
    trained = ms.train(method, domains, split, out=tmp_path / "run", **options)
    report = ms.evaluate(trained, domains, split, shots=(0,), seen=False, regimes=("closed",), support_draws=0)
    # Guessing: 50. MAML learns slowly: a whole episode, adapted to and asked about, for each of its gradient steps.
    assert triplets(report.data, "0") > (60 if method in ("maml", "fomaml") else 75)


@pytest.mark.slow
def test_the_example_in_python_ends_above_chance_with_both_methods(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train_and_compare.py", "--pairs", "200"])
    runpy.run_path(str(ROOT / "examples/train_and_compare.py"), run_name="__main__")
    row = next(line for line in capsys.readouterr().out.splitlines() if re.match(r"\| triplet, closed \| 0", line))
    found = [float(number) for number in re.findall(r"\d+\.\d", row)[:2]]
    assert min(found) > 75, row


@pytest.mark.slow
def test_the_example_of_ones_own_model_learns(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["own_model.py"])
    runpy.run_path(str(ROOT / "examples/own_model.py"), run_name="__main__")
    printed = capsys.readouterr().out
    found = {name: float(share) for name, share in re.findall(r"^(\w+) +triplets +(\S+) %", printed, re.M)}
    assert found["trained"] > 80
    assert found["trained"] > max(found["untrained"], found["pixels"]) + 15


@pytest.mark.slow
def test_the_quick_siamese_preset_tells_faces_apart(real_data, tmp_path):
    arguments = ["siamese", "--preset", "quick", "--data", "lfw", "--data-dir", str(real_data("lfw"))]
    assert run([*arguments, "--out", str(tmp_path / "run")]) == 0
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text("utf-8"))
    assert found["held_out"]["closed"]["0"]["pair_accuracy"]["global"]["mean"] > 68  # guessing: 50; here 73.7 ± 4.5


def test_a_preset_that_a_method_does_not_have_is_said():
    with pytest.raises(ms.MetaSiamError, match=r"protonet has no preset scratch\. It has: quick, best\."):
        preset_options("scratch", "protonet")
