"""What every command does before its own work."""

from __future__ import annotations

from typing import Any

import typer.core

from metasiam import catalogue
from metasiam.option_values import check_number


class Command(typer.core.TyperCommand):
    """A command all of whose numbers are finite, and whose whole numbers are below 2^63."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        if option is not None:
            option.metavar = ""  # --help takes no value
        return option

    def invoke(self, ctx: Any) -> Any:
        for parameter in self.params:
            value = ctx.params.get(str(parameter.name))
            if isinstance(value, str) and {"--arch", "--loss", "--augment"} & set(parameter.opts):
                catalogue.give(value)  # what is typed here is trusted, what a file says is not
            if isinstance(value, int | float):
                check_number(parameter.opts[0], value)
        return super().invoke(ctx)
