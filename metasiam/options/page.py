"""The page of every option, made of the declarations: ``python -m metasiam.options.page > docs/options.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping

from metasiam.methods import METHODS
from metasiam.options.budget import ComparisonOptions, SweepOptions
from metasiam.options.data import DataOptions, ShowOptions
from metasiam.options.declare import Declared, declared
from metasiam.options.evaluation import ProtocolSettings
from metasiam.options.flags import default_of, words_of
from metasiam.options.gallery import AnswerOptions, DrawOptions, EnrollOptions, GalleryOptions
from metasiam.options.pairs import PairDataOptions
from metasiam.options.presets import ABOUT
from metasiam.options.run import RunOptions
from metasiam.options.training import TrainingOptions
from metasiam.options.tune import TuneOptions
from metasiam.options.weights import WeightsOptions

_HEAD = """# Options

This page is made of the options' declarations (`python -m metasiam.options.page > docs/options.md`). What stands here
is a flag of the command line and an argument in Python; `--set method.option=value` sets it, `config.json` keeps it.
In Python, dashes are underscores: `--batch-size 64` is `batch_size=64`.

`metasiam presets NAME` lists what a preset sets.
"""


def options_page() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD, "## Presets\n", _presets()]
    shared = declared(TrainingOptions)
    parts += ["## Every method\n", _table(shared.values())]
    for name, method in METHODS.items():
        own = [option for option in declared(method.options).values() if _differs(option, shared)]
        parts += [f"## metasiam {name}\n", f"{method.about.rstrip('.')}.\n", _table(own)]
    for title, group in (
        ("Data", DataOptions),
        ("Pairs", PairDataOptions),
        ("Runs", RunOptions),
        ("Weights of others", WeightsOptions),
        ("metasiam compare", ComparisonOptions),
        ("metasiam sweep", SweepOptions),
        ("metasiam tune", TuneOptions),
        ("What is measured", ProtocolSettings),
        ("Galleries", GalleryOptions),
        ("metasiam enroll", EnrollOptions),
        ("metasiam identify", AnswerOptions),
        ("metasiam draw", DrawOptions),
        ("metasiam data show", ShowOptions),
    ):
        parts += [f"## {title}\n", _table(declared(group).values())]
    return "\n".join(parts)


def _differs(option: Declared, shared: Mapping[str, Declared]) -> bool:
    return shared.get(option.name) != option


def _presets() -> str:
    rows = [f"| `{name}` | {about} |" for name, about in ABOUT.items()]
    return "\n".join(["| `--preset` | what it is |", "| --- | --- |", *rows, ""])


def _table(options: Iterable[Declared]) -> str:
    return "\n".join(
        ["| option | what it does | default | it must |", "| --- | --- | --- | --- |", *_rows(options), ""]
    )


def _rows(options: Iterable[Declared]) -> Iterator[str]:
    for option in options:
        if not option.opt.help:
            continue
        name = f"`{option.name}` (Python)" if option.opt.hidden else f"`{option.opt.flag or option.flag}`"
        default = default_of(option)
        cells = (name, words_of(option), "" if default is None else f"`{default}`", option.opt.bounds() or "")
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    sys.stdout.write(options_page())
