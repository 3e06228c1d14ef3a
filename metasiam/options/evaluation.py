"""The settings that an evaluation's numbers depend on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal, Union, get_args

from metasiam.errors import MetaSiamError
from metasiam.option_values import MOST_COUNTED, MOST_SEED, plain
from metasiam.options.declare import Opt, check

#: How many labelled images of a held-out domain are used to adapt and to calibrate.
Shots = Union[int, Literal["all"]]  # noqa: UP007 (a runtime alias that Python 3.10 can print)
Regime = Literal["closed", "antidomain"]
#: Which weights an adaptation moves (``adaptation.AdaptationPlan``).
TrainedPart = Literal["all", "last_block", "batchnorm", "head"]

#: What ``inference`` may name: steps that wrap the embedder, in the order they are taken, and the head of episodes.
WRAPPING = ("mirror", "shifts", "tukey", "centre", "lda", "normalise")
INFERENCE = (*WRAPPING, "logistic")

#: ``--adapt-shots`` by preset: adapting to a hundred images of every held-out domain would take longer than training.
ADAPT_SHOTS: dict[str | None, tuple[Shots, ...]] = {"quick": (0, 5)}

#: Test pairs of a task, at most; triplets are as many, drawn for every domain at once.
MOST_PAIRS = 1_000_000

_MEASURE = "Evaluation"


def read_shots(text: str) -> tuple[Shots, ...]:
    """Read ``--adapt-shots``: counts of images and ``all``, separated by commas.

    Raises:
        MetaSiamError: for anything else.
    """
    shots: list[Shots] = []
    for part in text.split(","):
        word = part.strip()
        if word == "all":
            shots.append("all")
        elif word.isdecimal():
            shots.append(int(word))
        else:
            raise MetaSiamError(f"--adapt-shots {text}: '{word}' is not a number of images. Use e.g. 0,1,5,20,all.")
    return tuple(dict.fromkeys(shots))


def read_counts(flag: str, text: str, example: str) -> tuple[int, ...]:
    """Read whole numbers separated by commas.

    Raises:
        MetaSiamError: naming the option, for anything else.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise MetaSiamError(f"{flag} {text} is not a list of whole numbers. Use e.g. {example}.")
    return tuple(int(word) for word in words)


def read_steps(text: str) -> tuple[int, ...]:
    """Read ``--curve-steps``: whole numbers separated by commas."""
    return read_counts("--curve-steps", text, "0,5,10,30")


def read_names(text: str) -> tuple[str, ...]:
    """Read names separated by commas, each once."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",")))


def read_episodes(text: str) -> tuple[tuple[int, int], ...]:
    """Read ``--episodes``: kinds of episodes as ``5x1``, separated by commas.

    Raises:
        MetaSiamError: for another form.
    """
    kinds = [word.strip().split("x") for word in text.split(",")]
    if not all(len(kind) == 2 and all(part.isdecimal() for part in kind) for kind in kinds):
        raise MetaSiamError(f"--episodes {text} is not a list of WAYSxSHOTS. Use e.g. 5x1,5x5,20x1.")
    return tuple((int(ways), int(shots)) for ways, shots in kinds)


@dataclass(frozen=True)
class ProtocolSettings:
    """What is measured and how; saved under ``protocol`` in ``evaluation.json``.

    Each field's declaration says what it is; those with a flag are given on the command line too.
    """

    seed: Annotated[int, Opt("Of every draw.", panel="Run", least=0, largest=MOST_SEED)] = 0
    pairs: Annotated[int, Opt("Test pairs per task, half of them same.", panel=_MEASURE)] = 2000
    triplets: Annotated[int, Opt("Triplets a task.", hidden=True, least=1)] = 2000
    shots: Annotated[
        tuple[Shots, ...],
        Opt(
            "Images of a held-out domain to adapt with, each count measured apart, e.g. 0,1,5,20,all.",
            panel=_MEASURE,
            flag="--adapt-shots",
            read=read_shots,
            nothing="0,all",
        ),
    ] = (0, "all")
    regimes: Annotated[
        tuple[Regime, ...],
        Opt("Negatives: other held-out domains, seen domains; none: episodes alone are measured.", hidden=True),
    ] = ("closed", "antidomain")
    seen: Annotated[bool, Opt("Measure the seen domains' test images too, unadapted.", hidden=True)] = True
    episodes: Annotated[int, Opt("N-way K-shot episodes of each kind; 0: none.", hidden=True, least=0)] = 1000
    episode_kinds: Annotated[
        tuple[tuple[int, int], ...],
        Opt(
            "Kinds of few-shot episodes, WAYSxSHOTS, e.g. 5x1,20x1.",
            panel=_MEASURE,
            flag="--episodes",
            read=read_episodes,
            nothing="5x1,5x5",
        ),
    ] = ((5, 1), (5, 5))
    queries: Annotated[int, Opt("Query images of each class in an episode.", hidden=True, least=1)] = 15
    support_draws: Annotated[
        int, Opt("Draws of one support image a class, for the all-way 1-shot task.", hidden=True, least=0)
    ] = 200
    adapt_steps: Annotated[
        int | None,
        Opt(
            "Inner epochs of adaptation, for every count of images above 0.",
            panel=_MEASURE,
            least=0,
            nothing="chosen on validation domains, else 30 with all images and none with fewer",
        ),
    ] = None
    adapt_rate: Annotated[float, Opt("Adam's rate where the plan is not chosen.", hidden=True, above=0)] = 1e-3
    adapt_part: Annotated[TrainedPart, Opt("Weights that move where the plan is not chosen.", hidden=True)] = "all"
    choice_domains: Annotated[
        int, Opt("Validation domains to choose the plans on, at most; 0 does not choose.", hidden=True, least=0)
    ] = 4
    curve_steps: Annotated[
        tuple[int, ...],
        Opt("Also show accuracy after these adaptation steps, e.g. 0,5,10,30.", panel=_MEASURE, read=read_steps),
    ] = ()
    threshold: Annotated[
        float | None,
        Opt("The fixed threshold.", panel=_MEASURE, nothing="0.2 for cosines, as the published classic system"),
    ] = None
    calibration_images: Annotated[
        int, Opt("Training images of a domain for the global threshold, at most.", hidden=True, least=2)
    ] = 100
    calibration_negatives: Annotated[
        int, Opt("Seen-domain training images to compare a task's own images with.", hidden=True, least=1)
    ] = 1000
    folds: Annotated[
        int,
        Opt(
            "Parts of cross-fitting when an embedder adapted to few images is calibrated (from a hundred on, two "
            "fifths are held back in turn).",
            hidden=True,
            least=2,
        ),
    ] = 2
    mirror: Annotated[bool, Opt("Average each embedding with that of the mirrored image.", panel=_MEASURE)] = False
    inference: Annotated[
        tuple[str, ...],
        Opt(
            "Refine embeddings without training, by comma: mirror, shifts (average views), tukey (power transform), "
            "centre, lda (weigh by the seen domains' covariance), normalise, logistic (answers episodes).",
            panel=_MEASURE,
            read=read_names,
        ),
    ] = ()
    bootstrap: Annotated[int, Opt("Resamples behind each interval.", hidden=True, least=100)] = 1000
    protocols: Annotated[
        tuple[Literal["balanced", "reference"], ...],
        Opt(
            "balanced, reference (the published systems' own measurements), or both: balanced,reference.",
            panel=_MEASURE,
            flag="--protocol",
            read=read_names,
            nothing="balanced",
        ),
    ] = ("balanced",)
    reference_draws: Annotated[int, Opt("Draws of support images in reference.", hidden=True, least=1)] = 200

    def __post_init__(self) -> None:
        check(self)
        if self.pairs < 2:
            raise MetaSiamError(f"--pairs {self.pairs} is too few: at least one same and one different are needed.")
        if self.pairs > MOST_PAIRS:
            raise MetaSiamError(f"--pairs {self.pairs} is more than {MOST_PAIRS}, the most a task can have. Lower it.")
        for name in ("shots", "regimes", "inference", "protocols", "episode_kinds", "curve_steps"):
            if not isinstance(getattr(self, name), tuple | list):
                raise MetaSiamError(f"{name} must be a tuple, not {getattr(self, name)!r}.")
        object.__setattr__(self, "shots", tuple(map(plain, self.shots)))
        if not self.shots:
            raise MetaSiamError("shots names no count of images. Use (0,) to measure without adaptation.")
        for shots in self.shots:
            if shots != "all" and not _is_count(shots, least=0):
                raise MetaSiamError(f"--adapt-shots {shots!r} is not a number of images. Use counts from 0, or all.")
        for steps in self.curve_steps:
            if not _is_count(steps, least=0):
                raise MetaSiamError(f"--curve-steps {steps!r} is not a number of steps. Use e.g. 0,5,10,30.")
        if not self.regimes and not self.episodes:  # with episodes, those alone are measured
            raise MetaSiamError("regimes names none, and there are no episodes. Use closed, antidomain or both.")
        if unknown := [regime for regime in self.regimes if regime not in get_args(Regime)]:
            raise MetaSiamError(f"the regime {unknown[0]} is unknown. Use closed or antidomain.")
        if not self.protocols or [name for name in self.protocols if name not in ("balanced", "reference")]:
            raise MetaSiamError("--protocol takes balanced, reference or both.")
        if unfit := [name for name in self.inference if name not in INFERENCE]:
            raise MetaSiamError(f"--inference {unfit[0]} is unknown. Use some of: {', '.join(INFERENCE)}.")
        if self.mirror and set(self.inference) & set(WRAPPING):
            raise MetaSiamError("--mirror and --inference go together as --inference mirror,…")
        if not self.episode_kinds or not all(_is_kind(kind) for kind in self.episode_kinds):
            raise MetaSiamError("--episodes takes at least 2 ways and 1 shot, e.g. 5x1,5x5,20x1.")

    @property
    def largest_shots(self) -> int:
        """The largest count of images other than ``all``."""
        return max((shots for shots in self.shots if shots != "all"), default=0)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))  # tuples within tuples become lists too
        return values

    @classmethod
    def of_saved(cls, saved: Mapping[str, Any]) -> ProtocolSettings:
        """Return the settings that ``as_dict`` returned; what this version does not know is left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: _tuples(value) for name, value in saved.items() if name in known})


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_COUNTED


def _is_kind(kind: object) -> bool:
    """Tell whether it is ways and shots of an episode."""
    return (
        isinstance(kind, tuple | list)
        and len(kind) == 2
        and _is_count(kind[0], least=2)
        and _is_count(kind[1], least=1)
    )


def _tuples(value: Any) -> Any:
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def settings_from(
    given: Mapping[str, Any], *, preset: str | None = None, earlier: Mapping[str, Any] | None = None, **more: Any
) -> ProtocolSettings:
    """Return the protocol settings that options ask for.

    Args:
        given: fields of ``ProtocolSettings``; as many triplets are measured as pairs.
        preset: a preset's ``--adapt-shots`` hold where none are given.
        earlier: settings as they were saved, which hold where nothing else was given.
        more: further fields; None is not given.

    Raises:
        MetaSiamError: for values that do not fit.
    """
    values = {**given, **{name: value for name, value in more.items() if value is not None}}
    if "pairs" in values:
        values["triplets"] = values["pairs"]
    if preset in ADAPT_SHOTS:
        values.setdefault("shots", ADAPT_SHOTS[preset])
    return replace(ProtocolSettings.of_saved(earlier or {}), **values)
