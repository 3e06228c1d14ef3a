"""What a search over options tries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from metasiam.option_values import MOST_SEED
from metasiam.options.declare import Opt

_SEARCH = "Search"


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """A search over the options of ``metasiam siamese``."""

    tries: Annotated[
        list[str] | None,
        Opt("Option and values to try: lr=0.0001,0.001 or lr=0.0001..0.01 (repeatable).", panel=_SEARCH, flag="--try"),
    ] = None
    strategy: Annotated[Literal["grid", "random", "tpe"], Opt("Which values come next", panel=_SEARCH)] = "grid"
    trials: Annotated[int, Opt("Number of trials (random and tpe).", panel=_SEARCH, least=1)] = 20
    settings: Annotated[
        list[str] | None,
        Opt("Option and value for all trials: epochs=5 (repeatable).", panel=_SEARCH, flag="--set"),
    ] = None
    seed: Annotated[
        int,
        Opt(
            "Random seed of the search; --set seed=… is that of the trainings.",
            panel=_SEARCH,
            least=0,
            largest=MOST_SEED,
        ),
    ] = 0
