"""The methods: what each is called, its options, and what builds its learner. No torch here: the command line reads it.

To add one, write an options class (``metasiam.options``) and a function ``build(options, context, processes)`` that
returns a ``Learner`` (``metasiam.training.learner``), and add a row to ``METHODS``. A package of its own registers a
``Method`` as an entry point of the group ``metasiam.methods``, or hands it to ``train``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from metasiam import catalogue
from metasiam.errors import MetaSiamError
from metasiam.options.few_shot import AnilOptions, BaselineOptions, FomamlOptions, MamlOptions, ProtoNetOptions
from metasiam.options.pairs import SiameseOptions
from metasiam.options.reptile import ReptileOptions
from metasiam.options.training import TrainingOptions
from metasiam.options.triplet import TripletOptions


@dataclass(frozen=True)
class Method:
    """How an embedder is trained.

    Attributes:
        options: a frozen dataclass, subclass of ``TrainingOptions``; its ``method`` is the method's name.
        build: called as ``build(options, context, processes)``; returns a ``Learner``. Or where it is, as
            ``module:name``, which is imported when a training begins.
        about: one line.
        more: what else its help says.
        examples: commands, for its help; none: its quick preset.
        title: what reports call it; empty: its name.
        data: what it is trained on.
    """

    options: type[TrainingOptions]
    build: Callable[[Any, Any, Any], Any] | str
    about: str
    more: str = ""
    examples: tuple[str, ...] = ()
    title: str = ""
    data: Literal["domains", "pairs"] = "domains"

    @property
    def name(self) -> str:
        """The name that runs are saved with."""
        return self.options.method

    def help(self) -> str:
        """Return the help of its command; examples stand one a line, to be copied."""
        about = f"{self.about.rstrip('.')}, then test on classes it has never seen."
        parts = (about, self.more, _lines(self.examples or (f"metasiam {self.name} --preset quick",)))
        return "\n\n".join(part for part in parts if part)

    def learner(self, options: TrainingOptions, context: Any, processes: Any) -> Any:
        """Return the learner that a training runs."""
        build = self.build
        if isinstance(build, str):
            module, _, attribute = build.partition(":")
            build = getattr(importlib.import_module(module), attribute)
        return build(options, context, processes)


def _lines(examples: tuple[str, ...]) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            ReptileOptions,
            "metasiam.learners.reptile:Reptile",
            "Meta-train an embedder with Reptile",
            more="The defaults are the published system's, which take days on a CPU: begin with a preset.",
            examples=(
                "metasiam reptile --preset quick",
                "metasiam reptile --preset scratch --data cifar100",
                "metasiam reptile --data cifar100 --iterations 10000 --inner-epochs 30",
            ),
        ),
        Method(
            TripletOptions,
            "metasiam.learners.triplet:Triplet",
            "Train an embedder the classic way, on triplets or class labels",
            more="The defaults are the published system's, which take days on a CPU: begin with a preset.",
            examples=("metasiam triplet --preset quick", "metasiam triplet --preset best --data cifar100"),
            title="classic",
        ),
        Method(BaselineOptions, "metasiam.learners.baseline:baseline", "Train a cosine classifier of the seen classes"),
        Method(ProtoNetOptions, "metasiam.learners.protonet:protonet", "Meta-train prototypical networks on episodes."),
        Method(FomamlOptions, "metasiam.learners.fomaml:fomaml", "Meta-train with first-order MAML on episodes."),
        Method(MamlOptions, "metasiam.learners.maml:maml", "Meta-train with MAML's second derivatives (learn2learn)."),
        Method(AnilOptions, "metasiam.learners.anil:anil", "Meta-train with ANIL: inner steps move the head only."),
        Method(
            SiameseOptions,
            "metasiam.learners.siamese:Siamese",
            "Train on labelled pairs: same or different?",
            data="pairs",
        ),
    )
}


#: Methods that somebody handed over in this process.
_GIVEN: dict[str, Method] = {}


def give(method: Method | str) -> str:
    """Return a method's name; a ``Method`` can be found by it from now on.

    Raises:
        MetaSiamError: if another method has its name.
    """
    if isinstance(method, str):
        return method
    if METHODS.get(method.name, method) != method:
        raise MetaSiamError(f"there is a method {method.name} already. Give the options class another method name.")
    if method.name not in METHODS:
        _GIVEN[method.name] = method
    return method.name


def names(data: str = "domains") -> tuple[str, ...]:
    """Return the names of the methods for a kind of data, those of installed packages last."""
    own = tuple(name for name, method in METHODS.items() if method.data == data)
    given = tuple(name for name, method in _GIVEN.items() if method.data == data)
    return (
        own + given + (tuple(sorted(set(catalogue.installed("methods")) - set(METHODS))) if data == "domains" else ())
    )


def find(name: str, data: str = "domains") -> Method:
    """Return a method by its name.

    Raises:
        MetaSiamError: for an unknown one.
    """
    found = METHODS.get(name) or _GIVEN.get(name)
    if found is not None and found.data == data:
        return found
    if found is not None:
        wanted = {"pairs": "labelled pairs (load_pairs)", "domains": "domains (load_domains)"}[found.data]
        raise MetaSiamError(f"{name} trains on {wanted}, not on {data}. Use one of: {', '.join(names(data))}.")
    if data == "domains" and (offered := catalogue.installed("methods").get(name)) is not None:
        method = offered.load()
        if not isinstance(method, Method) or method.name != name:
            raise MetaSiamError(f"what a package offers as the method {name} is no Method of that name.")
        return method
    raise MetaSiamError(f"method {name} is unknown. Use one of: {', '.join(names(data))}.")


def options_class(name: str) -> type[TrainingOptions]:
    """Return the options of a method, for domains or for pairs.

    Raises:
        MetaSiamError: for an unknown one.
    """
    return METHODS["siamese"].options if name == "siamese" else find(name).options
