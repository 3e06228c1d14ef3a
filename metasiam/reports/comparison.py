"""Who is better at what: the rows of ``compare.json`` read into verdicts, and the tables made from them.

A winner is named only where the paired 95 % interval excludes zero against every other method, and never one that
cannot be told from guessing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from metasiam.reports.chance import is_guessing
from metasiam.reports.numbers import (
    METRICS,
    MISSING,
    NO_CLEAR_WINNER,
    REGIMES,
    Interval,
    Json,
    clean,
    conditions,
    episode,
    episodes_of,
    interval,
    is_one_answer,
    method_name,
    metric,
    metrics_of,
    more_digits,
    number,
    regimes_note,
    shots_words,
    signed,
)
from metasiam.reports.rendering import Column, Row, Table
from metasiam.reports.trainings import trainings_words
from metasiam.wording import together

#: Short names of the metrics, for the first column of a comparison.
SHORT = {
    "triplet_accuracy": "triplet",
    "pair_accuracy_per_task": "pairs, calibrated",
    "pair_accuracy_global": "pairs, global",
    "pair_accuracy_fixed": "pairs, fixed",
    "pair_accuracy_oracle": "pairs, oracle",
    "auc": "AUC",
    "eer": "EER (less is better)",
    "tar_at_far_1pct": "TAR at FAR 1 %",
    "ece": "ECE (less is better)",
}
#: With so many compared rows or more, a table says that chance names winners too.
MANY_ROWS = 5
#: What stands where a winner would, if nobody is better than guessing.
ALL_GUESS = "none: guessing"
#: What guessing is perfect at: being better at it than a method that knows something is nothing.
TRIVIAL = ("ece",)
#: What a comparison shows unless asked for more.
MAIN = ("triplet_accuracy", "pair_accuracy_per_task", "pair_accuracy_global")


@dataclass(frozen=True)
class Verdict:
    """One measured quantity, and which method is better at it.

    Attributes:
        name: the metric as in ``METRICS``, or the kind of episode.
        regime: ``closed``, ``antidomain`` or ``episodes``.
        shots: images adapted to, as in the JSON; empty for episodes.
        values: each method's value.
        winner: the method that is significantly better than every other; None if there is none.
        compared: whether the JSON compares the methods here at all.
        first, second: the two methods that ``difference`` is about: both, or the best two of several.
        difference: first minus second with its paired interval, in the units of the metric.
        guessing: of each measured method, whether it cannot be told from guessing.
        beaten: of each method that is significantly better than others, those others; in the order of the methods.
    """

    name: str
    regime: str
    shots: str
    values: Mapping[str, Interval | None]
    winner: str | None
    compared: bool
    first: str = ""
    second: str = ""
    difference: Interval | None = None
    guessing: Mapping[str, bool] = field(default_factory=dict)
    beaten: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """The winner's name, ``no clear winner``, ``none: guessing``, or a dash where nothing was compared."""
        if not self.compared:
            return MISSING
        if self.winner is not None:
            return method_name(self.winner)
        return ALL_GUESS if sum(not guesses for guesses in self.guessing.values()) < self._rivals else NO_CLEAR_WINNER

    @property
    def _rivals(self) -> int:
        """How many methods there must be that do not guess, for one to be the winner."""
        return 2 if self.name in TRIVIAL else 1


def verdict(compare: Json, regime: str, shots: str, name: str) -> Verdict:
    """Read one quantity of ``compare.json``; for episodes, ``shots`` is empty and ``name`` their kind."""
    methods: Mapping[str, Json] = compare.get("methods") or {}
    episodes = regime == "episodes"
    values = {
        method: episode(data, name) if episodes else metric(metrics_of(data, regime, shots), name)
        for method, data in methods.items()
    }
    lower = not episodes and name in METRICS and METRICS[name].lower_is_better
    gaps = _gaps(compare, regime, shots, name)
    present = [method for method, value in values.items() if value is not None]
    rivals = {method: [other for other in present if other != method] for method in present}
    compared = len(present) > 1 and all((a, b) in gaps for a in present for b in rivals[a])
    guessing = {method: is_guessing(methods[method], regime, shots, name) for method in present}
    knowing = [method for method in present if not guessing[method]]
    rivals = {a: [b for b in rivals[a] if name not in TRIVIAL or not guessing[b]] for a in present}
    beaten = {
        a: found for a in knowing if (found := tuple(b for b in rivals[a] if _is_better(gaps.get((a, b)), lower)))
    }
    winner = next((a for a in beaten if compared and len(beaten[a]) == len(rivals[a])), None)
    first, second = "", ""
    if len(present) >= 2:
        means = {method: value.mean for method, value in values.items() if value is not None}
        ranked = sorted(present, key=lambda method: means[method], reverse=not lower)
        first, second = present if len(present) == 2 else ranked[:2]
    gap = gaps.get((first, second))
    return Verdict(name, regime, shots, values, winner, compared, first, second, gap, guessing, beaten)


def _gaps(compare: Json, regime: str, shots: str, name: str) -> dict[tuple[str, str], Interval]:
    """Return a − b with its paired interval for every ordered pair of methods that was compared here."""
    gaps = {}
    for row in compare.get("paired") or []:
        if regime == "episodes":
            matches = (row.get("regime"), str(row.get("shots"))) == ("episodes", name)
            matches = matches or row.get("metric") == f"episodes {name}"
        else:
            matches = (row.get("regime"), str(row.get("shots")), row.get("metric")) == (regime, shots, name)
        gap = interval({"mean": row.get("difference"), "ci95": row.get("ci95"), "n": row.get("n")})
        if matches and gap is not None:
            gaps[str(row.get("a")), str(row.get("b"))] = gap
            gaps[str(row.get("b")), str(row.get("a"))] = Interval(
                -gap.mean, None if gap.high is None else -gap.high, None if gap.low is None else -gap.low, gap.n
            )
    return gaps


def _is_better(gap: Interval | None, lower: bool) -> bool:
    """Tell whether a difference is in favour of its first method with an interval that excludes zero."""
    if gap is None:
        return False
    bound = gap.high if lower else gap.low
    return bound is not None and (bound < 0 if lower else bound > 0)


def verdicts(compare: Json, names: Sequence[str] = MAIN, regimes: Sequence[str] = REGIMES) -> list[Verdict]:
    """Return everything compared: the named metrics in each regime, by growing numbers of images; then the episodes."""
    methods = list((compare.get("methods") or {}).values())
    rows = [
        verdict(compare, regime, shots, name)
        for regime in regimes
        for name in names
        for kind, shots in conditions(methods)
        if kind == regime
    ]
    rows += [verdict(compare, "episodes", "", name) for name in episodes_of(methods)]
    return [row for row in rows if any(value is not None for value in row.values.values())]


def comparison_table(compare: Json, names: Sequence[str] = MAIN, regimes: Sequence[str] = REGIMES) -> Table:
    """Return a row for each metric, regime and number of images: every method, the difference, the winner.

    Args:
        compare: a parsed ``compare.json``.
        names: metrics to show, as in ``METRICS``; episodes are always shown.
        regimes: regimes to show.
    """
    methods = list(compare.get("methods") or {})
    rows = [row for row in verdicts(compare, names, regimes) if not _says_nothing(row)]
    two = len(methods) == 2
    gap_title = f"{method_name(methods[0], 20)} − {method_name(methods[1], 20)} (95 %)" if two else "better (95 %)"
    many = len(methods) > 1
    columns = (
        Column("measured", "left"),
        Column("images"),
        *(Column(method_name(method, 24)) for method in methods),
        *((Column(gap_title), Column("winner", "left")) if many else ()),
    )
    body: list[Row] = []
    strong = set()
    for place, row in enumerate(rows):
        label = clean(row.name) if row.regime == "episodes" else f"{SHORT.get(row.name, row.name)}, {row.regime}"
        repeated = place > 0 and (row.name, row.regime) == (rows[place - 1].name, rows[place - 1].regime)
        gap = _gap_words(row, two)
        body.append(
            (
                "" if repeated else label,
                row.shots,
                *(number(row.values.get(method), row.name) for method in methods),
                *((gap, row.words) if many else ()),
            )
        )
        if row.winner is not None:
            strong |= {(place, 2 + methods.index(row.winner)), (place, len(columns) - 1)}
    title = "Accuracy in % on held-out domains, by images known of each"
    note = ""
    if many:
        note = "A winner is named only where the paired 95 % interval of the difference excludes zero"
        guess = any(any(row.guessing.values()) for row in rows)
        note += ", and never one that cannot be told from guessing. " if guess else ". "
        if sum(row.compared for row in rows) >= MANY_ROWS:
            note += "By chance alone, about one row in twenty would name a winner where there is none. "
        note += f"{trainings_words(compare)} "
    note += regimes_note(row.regime for row in rows) if rows else ""
    return Table(title, columns, tuple(body), note=note.strip(), strong=frozenset(strong))


def _says_nothing(row: Verdict) -> bool:
    """Tell whether the fixed threshold gives one answer to all pairs, whatever the method."""
    found = [value for value in row.values.values() if value is not None]
    return row.name == "pair_accuracy_fixed" and all(map(is_one_answer, found))


def pairs_table(compare: Json, regime: str, shots: str) -> Table:
    """Return every two methods and by how much they differ, each row first minus second with its 95 % interval.

    Args:
        compare: a parsed ``compare.json`` of three methods or more.
        regime: ``closed`` or ``antidomain``.
        shots: images known, as in the JSON.
    """
    methods: Mapping[str, Json] = compare.get("methods") or {}
    titles = {"triplet_accuracy": "triplet", "pair_accuracy_per_task": "pairs, calibrated", "auc": "AUC"}
    gaps = {name: _gaps(compare, regime, shots, name) for name in titles}
    shown = [name for name in titles if gaps[name]]
    body: list[Row] = []
    strong = set()
    for a, b in combinations(methods, 2):
        found = [gaps[name].get((a, b)) for name in shown]
        if any(gap is not None for gap in found):
            strong |= {
                (len(body), place + 1)
                for place, gap in enumerate(found)
                if _is_better(gap, False) or _is_better(gap, True)
            }
            cells = (_difference_words(gap, name) for gap, name in zip(found, shown, strict=True))
            body.append((f"{method_name(a, 20)} − {method_name(b, 20)}", *cells))
    columns = (Column("difference", "left"), *(Column(titles[name]) for name in shown))
    title = f"Every two methods, {regime}, {shots_words(shots)}: differences in points, 95 % intervals"
    note = "Bold: the interval excludes zero." if body else ""
    return Table(title, columns, tuple(body), note=note, strong=frozenset(strong))


def _gap_words(row: Verdict, two: bool) -> str:
    """Word the difference of two methods, or who of several is better than whom."""
    if two:
        return _difference_words(row.difference, row.name)
    return beaten_words(row, brief=True) or MISSING


def beaten_words(row: Verdict, *, brief: bool = False) -> str:
    """Say who is significantly better than whom: ``a and b are better than c; c is better than d``; empty: nobody.

    Args:
        row: the quantity.
        brief: for a table's cell: ``a, b > c; c > d``.
    """
    winners: dict[tuple[str, ...], list[str]] = {}
    for winner, losers in row.beaten.items():
        winners.setdefault(losers, []).append(winner)
    parts = []
    for losers, names in winners.items():
        left, right = ([method_name(name, 24) for name in group] for group in (names, losers))
        verb = "is" if len(left) == 1 else "are"
        parts.append(
            f"{', '.join(left)} > {', '.join(right)}"
            if brief
            else f"{together(left)} {verb} better than {together(right)}"
        )
    return "; ".join(parts)


def _difference_words(gap: Interval | None, name: str) -> str:
    if gap is None:
        return MISSING
    more = more_digits(gap, name)
    text = signed(gap.mean, name, more)
    if gap.low is not None and gap.high is not None:
        text += f" [{signed(gap.low, name, more)}, {signed(gap.high, name, more)}]"
    return text
