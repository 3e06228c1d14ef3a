"""An option is said once: flags, help, checks, texts and what is saved come from its declaration."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
import typer
import typer.main
from typer.testing import CliRunner

from metasiam import MetaSiamError
from metasiam.cli import run
from metasiam.methods import METHODS, names, options_class
from metasiam.options.declare import Opt, declared, made_of
from metasiam.options.flags import Flags, takes
from metasiam.options.page import options_page
from metasiam.options.presets import DATA, preset_options
from metasiam.options.training import TrainingOptions, options_of, value_of


@dataclass(frozen=True, kw_only=True)
class Steep(TrainingOptions):
    """A method of somebody's own, without postponed annotations."""

    method: ClassVar[str] = "steep"

    slope: Annotated[float, Opt("How steep.", panel="Own", above=0, most=2)] = 0.5
    way: Annotated[Literal["up", "down"], Opt("Which way", panel="Own")] = "up"
    limit: Annotated[int | None, Opt("Where it ends.", panel="Own", least=3, nothing="nowhere")] = None
    fast: Annotated[bool, Opt("Be fast.", panel="Own")] = False


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"slope": 3}, "--slope must be above 0 and at most 2, not 3. Try --slope 0.5."),
        ({"slope": 0.0}, "--slope must be above 0 and at most 2, not 0.0. Try --slope 0.5."),
        ({"slope": "x"}, "--slope must be a number, not 'x'."),
        ({"way": "left"}, "--way left is unknown. Use one of: up, down."),
        ({"limit": 2}, "--limit must be at least 3, not 2."),
        ({"fast": 1}, "--fast must be True or False, not 1."),
        ({"slop": 1}, "steep has no option 'slop'. Did you mean slope?"),
    ],
)
def test_one_declaration_checks_values_by_kind_bounds_and_choices(values, text):
    with pytest.raises(MetaSiamError) as caught:
        options_of(Steep, values)
    assert str(caught.value).startswith(text)


def test_it_reads_texts_and_is_saved():
    assert value_of(Steep, "slope", "1.5", "--set") == 1.5
    assert value_of(Steep, "limit", "none", "--set") is None
    assert value_of(Steep, "fast", "yes", "--set") is True
    with pytest.raises(MetaSiamError, match="--set slope=x: 'x' is not a valid value for slope"):
        value_of(Steep, "slope", "x", "--set slope=x")
    made = options_of(Steep, {"slope": 1, "way": "down"})
    assert options_of(Steep, json.loads(json.dumps(made.as_dict()))) == made


def test_it_becomes_a_flag_with_help_and_what_was_not_given_is_not_there():
    got = {}

    @takes(Flags(Steep, "own", only=("slope", "way", "limit", "fast")))
    def command(own: dict, place: Annotated[str, typer.Argument()] = "here") -> None:
        """Climb."""
        got.update(own, place=place)

    app = typer.Typer(rich_markup_mode="rich")
    app.command()(command)
    shown = " ".join(CliRunner().invoke(app, ["--help"], env={"TERMINAL_WIDTH": "160", "NO_COLOR": "1"}).output.split())
    assert "How steep. [default: 0.5]" in shown
    assert "Which way (up or down). [default: up]" in shown
    assert "Where it ends. [default: nowhere]" in shown
    assert "<bool>" not in shown.split("--fast")[1]
    assert CliRunner().invoke(app, ["--slope", "2", "there"]).exit_code == 0
    assert got == {"slope": 2.0, "place": "there"}
    assert isinstance(CliRunner().invoke(app, ["--slope", "9"]).exception, MetaSiamError)


def test_a_flag_cannot_be_taken_twice():
    with pytest.raises(TypeError, match="--slope twice"):

        @takes(Flags(Steep, "one", only=("slope",)), Flags(Steep, "two", only=("slope",)))
        def command(one: dict, two: dict) -> None:
            """Climb."""


@pytest.mark.parametrize("method", METHODS)
def test_every_option_of_every_method_has_help_and_a_fitting_default(method):
    options = options_class(method)
    for name, option in declared(options).items():
        assert option.opt.help.strip().endswith((".", "…")) or option.choices or option.opt.names, name
        assert option.check(option.default) == option.default, name
    assert options_of(options, options().as_dict()) == options()


@pytest.mark.parametrize("method", METHODS)
def test_every_preset_of_every_method_fits(method):
    for preset in options_class(method).presets:
        options_of(options_class(method), preset_options(preset, method)[1])
        assert method == "siamese" or preset in DATA


def test_an_option_of_a_group_that_it_does_not_have_is_refused():
    @dataclass(frozen=True)
    class Two:
        a: int = 1

    assert made_of(Two, {"a": 2}, "two") == Two(2)
    with pytest.raises(MetaSiamError, match="two has no option 'b'"):
        made_of(Two, {"b": 2}, "two")


# --- commands made of them --------------------------------------------------------------------------------------


def test_every_method_has_a_command_with_its_own_options(capsys, monkeypatch):
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    for method in (*names(), *names("pairs")):
        assert run([method, "--help"]) == 0
        shown = capsys.readouterr().out
        for name in set(options_class(method).__annotations__) - {"method", "presets", "losses", "needs_weights"}:
            if not declared(options_class(method))[name].opt.hidden:
                assert declared(options_class(method))[name].flag in shown, (method, name)


@pytest.mark.parametrize("method", ["baseline", "protonet", "fomaml"])
def test_the_commands_train_test_and_resume(method, tiny_npz, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = [
        "--data",
        tiny_npz,
        "--held-out",
        "3",
        "--arch",
        "resnet8",
        "--iterations",
        "2",
        "--compile",
        "off",
        "--pairs",
        "10",
        "--adapt-shots",
        "0",
    ]
    small += ["--ways", "2", "--shots", "1", "--queries", "1"] if method != "baseline" else ["--batch-size", "4"]
    assert run([method, *small, "--out", "run"]) == 0
    assert "Held-out tasks" in capsys.readouterr().out
    assert json.loads(Path("run/config.json").read_text())["options"]["method"] == method
    assert Path("run/evaluation.json").is_file()
    assert Path("run/report.html").is_file()
    assert run([method, "--resume", "run"]) == 0


def test_presets_and_models_are_listed(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["presets"]) == 0
    assert "scratch-single" in capsys.readouterr().out
    assert run(["presets", "reptile"]) == 0
    shown = capsys.readouterr().out
    assert "metasiam reptile --preset scratch" in shown
    assert "balanced-softmax" in shown
    assert run(["presets", "seed"]) == 0  # an earlier name
    assert "--preset published" in capsys.readouterr().out
    assert run(["presets", "fast"]) == 2
    assert "there is no preset or method 'fast'. Use one of: quick" in capsys.readouterr().err
    assert run(["models"]) == 0
    shown = capsys.readouterr().out
    for word in ("resnet20", "balanced-softmax", "protonet", "timm:NAME"):
        assert word in shown


#: Run where importing torch fails: these are told before.
_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from metasiam.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["reptile", "--data", "folder:nowhere"], "nowhere is not a folder that can be read"),
        (["triplet", "--init", "nowhere"], "nowhere does not exist"),
        (["triplet", "--data", "npz:nowhere.npz"], "nowhere.npz does not exist"),
        (["siamese", "--data", "pairs:nowhere.csv"], "nowhere.csv does not exist"),
        (["protonet", "--ways", "1"], "--ways must be at least 2, not 1. Try --ways 5."),
        (["triplet", "--data", "photos"], "the data source 'photos' is not known"),
        (["compare", "--adapt-shots", "many"], "--adapt-shots many: 'many' is not a number of images"),
    ],
)
def test_what_cannot_work_is_said_before_torch_is_imported(tmp_path, arguments, text):
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_page_of_options_is_that_of_the_declarations():
    """Renew it after a change that is meant: python -m metasiam.options.page > docs/options.md."""
    page = Path(__file__).parents[1] / "docs" / "options.md"
    assert page.read_text(encoding="utf-8") == options_page()
