"""The command line: one file a command. torch is imported only inside the commands, so that help is instant."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import typer

from metasiam.cli import compare, data, draw, enroll, evaluate, identify, match, reptile, siamese, sweep, triplet, tune
from metasiam.errors import MetaSiamError

app = typer.Typer(
    name="metasiam",
    help="Is this the same kind of thing? Train, compare and use image embedders for domains never seen before.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command("reptile")(reptile.command)
app.command("triplet")(triplet.command)
app.command("siamese")(siamese.command)
app.command("tune")(tune.command)
app.command("evaluate")(evaluate.command)
app.command("compare")(compare.command)
app.command("sweep")(sweep.command)
app.command("draw")(draw.command)
app.command("enroll")(enroll.command)
app.command("identify")(identify.command)
app.command("match")(match.command)
app.add_typer(data.app, name="data")


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from metasiam import __version__

        sys.stdout.write(f"metasiam {__version__}\n")
        raise typer.Exit


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 2 bad input, 130 stopped by the user."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # read when torch first allocates
    try:
        result = typer.main.get_command(app).main(args=arguments, prog_name="metasiam", standalone_mode=False)
    except MetaSiamError as error:
        return _complain(str(error)) if _speaks() else 2
    except (KeyboardInterrupt, typer.Abort):
        sys.stderr.write("metasiam: interrupted\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        # Typer's usage errors; typer keeps its own copy of click, so they are known by what they can do.
        format_message = getattr(error, "format_message", None)
        if format_message is None:
            raise
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "metasiam"
        return _complain(f"{format_message()} See {path} --help.")
    return result if isinstance(result, int) else 0


def _speaks() -> bool:
    """Whether this process reports the error: of several that torchrun started, the first that has one."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return True
    from metasiam.training.distributed import first_to_speak

    return first_to_speak()


def _complain(text: str) -> int:
    sys.stderr.write("metasiam: " + " ".join(text.split()) + "\n")
    return 2


def main() -> NoReturn:
    """Entry point of ``metasiam`` and ``python -m metasiam``."""
    sys.exit(run())
