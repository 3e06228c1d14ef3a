"""The command line: one file a command. torch is imported only inside the commands, so that help is instant."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from typing import Any, NoReturn

import typer
import typer.core

from metasiam.cli import compare, data, draw, enroll, evaluate, identify, lists, match, methods, siamese, sweep, tune
from metasiam.cli.command import Command
from metasiam.cli.signals import last_words, sigterm_as_ctrl_c
from metasiam.errors import MetaSiamError, on_command_line
from metasiam.failures import in_a_line
from metasiam.methods import METHODS, find, names
from metasiam.wording import harmless, plainly

_HELP = """Is this the same kind of thing? Train, compare and use networks that answer this for new classes.

Start here, it takes three minutes: [bold]metasiam compare --preset quick --out runs/quick[/bold]

Recognise your own pictures, a folder for each name: [bold]metasiam enroll photos/ --weights runs/quick/triplet[/bold]

Compare methods on them, a folder for each class: [bold]metasiam compare --preset quick --data folder:photos[/bold]

Every command has examples in its own --help, and ends by saying what to do next.
"""

_START, _OWN, _TRAIN, _PAIRS, _MORE, _LISTS = (
    "Start here",
    "Your own pictures",
    "Train one method",
    "Faces and other labelled pairs",
    "Measure more",
    "What there is",
)


class _Commands(typer.core.TyperGroup):
    """The commands, and those of methods that installed packages offer.

    Ctrl-C or SIGTERM in one of them is said, where typer would only leave with code 130.
    """

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in names():  # its package is imported when its command is called, not before
            apart = typer.Typer(rich_markup_mode="rich", add_completion=False)
            apart.command(cmd_name, cls=Command)(methods.command_of(find(cmd_name)))
            return typer.main.get_command(apart)
        return found

    def invoke(self, ctx: Any) -> Any:
        try:
            with on_command_line():
                return super().invoke(ctx)
        except KeyboardInterrupt as error:
            words, code = last_words(error)
            sys.stderr.write(words)
            raise typer.Exit(code) from error


app = typer.Typer(
    name="metasiam",
    cls=_Commands,
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command("compare", cls=Command, rich_help_panel=_START)(compare.command)
app.add_typer(data.app, name="data", rich_help_panel=_START)
app.command("enroll", cls=Command, rich_help_panel=_OWN)(enroll.command)
app.command("identify", cls=Command, rich_help_panel=_OWN)(identify.command)
app.command("match", cls=Command, rich_help_panel=_OWN)(match.command)
app.command("draw", cls=Command, rich_help_panel=_OWN)(draw.command)
for _name in METHODS:
    if METHODS[_name].data == "domains":
        app.command(_name, cls=Command, rich_help_panel=_TRAIN)(methods.command_of(METHODS[_name]))
app.command("siamese", cls=Command, rich_help_panel=_PAIRS)(siamese.command)
app.command("tune", cls=Command, rich_help_panel=_PAIRS)(tune.command)
app.command("evaluate", cls=Command, rich_help_panel=_MORE)(evaluate.command)
app.command("sweep", cls=Command, rich_help_panel=_MORE)(sweep.command)
app.command("presets", cls=Command, rich_help_panel=_LISTS)(lists.presets)
app.command("models", cls=Command, rich_help_panel=_LISTS)(lists.models)


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from metasiam import __version__

        sys.stdout.write(f"metasiam {__version__}\n")
        raise typer.Exit


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 2 bad input, 130 stopped by the user, 143 by SIGTERM."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read when torch first allocates
    _print_anything()
    try:
        with sigterm_as_ctrl_c():
            result = typer.main.get_command(app).main(args=arguments, prog_name="metasiam", standalone_mode=False)
        sys.stdout.flush()  # what cannot be written is said here, not in the interpreter's last words
    except MetaSiamError as error:
        return _complain(str(error)) if _speaks() else 2
    except (KeyboardInterrupt, typer.Abort) as error:
        words, code = last_words(error)
        sys.stderr.write(words)
        return code
    except BrokenPipeError:
        _drop_output()
        return 1
    except Exception as error:
        # Typer's usage errors; typer keeps its own copy of click, so they are known by what they can do.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            said = in_a_line(error)
            if said is None:
                raise
            try:
                sys.stdout.flush()
            except OSError:
                _drop_output()
            return _complain(said) if _speaks() else 2
        what = format_message().strip()
        if not what:  # no command given: the help is shown already
            return 2
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "metasiam"
        return _complain(f"{what.rstrip('.')}. See {path} --help.")
    return result if isinstance(result, int) else 0


def _print_anything() -> None:
    """Let stdout and stderr print every text, whatever their encoding and whatever bytes a file's name is made of."""
    codecs.register_error("metasiam", plainly)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # replaced by something that is no text file, or closed
            stream.reconfigure(errors="metasiam")  # type: ignore[union-attr]


def _drop_output() -> None:
    """Send what stdout still holds nowhere, so that the interpreter does not fail on it when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _speaks() -> bool:
    """Whether this process reports the error: of several that torchrun started, the first that has one."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    from metasiam.training.distributed import first_to_speak

    return first_to_speak()


def _complain(text: str) -> int:
    sys.stderr.write("metasiam: " + harmless(" ".join(text.split())) + "\n")
    return 2


def main() -> NoReturn:
    """Entry point of ``metasiam`` and ``python -m metasiam``."""
    sys.exit(run())
