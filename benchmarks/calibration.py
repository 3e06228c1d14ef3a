"""What each kind of threshold calibration gains, on the same held-out pairs.

    python -m benchmarks.calibration --data folder:CIFAR100 --weights classic-90-10.pt --arch resnet56
    python -m benchmarks.calibration --data folder:CIFAR100 --weights RUN --validation 10 --name own

Every kind answers the pairs of the balanced protocol (ten held-out domains, closed and antidomain); the figures are the
mean accuracy over domains and the mean distance to the oracle, the best threshold in hindsight, in points. Own
thresholds come from the k images and seen-domain negatives alone; nothing here is chosen on test images. Score
normalisation changes the scores themselves: it stands next to plain scores, each at the global threshold of its own and
at the oracle of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import metasiam as ms
from benchmarks.data import benchmark_domains
from benchmarks.harness import options, save
from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.evaluation.calibration import CohortNormaliser, ThresholdCalibrator
from metasiam.evaluation.draws import Draws, draw_protocol
from metasiam.evaluation.embedded import embed_all
from metasiam.evaluation.protocol import evaluate
from metasiam.evaluation.result import TaskResult
from metasiam.evaluation.scored_pairs import ScoredPairs, accuracy_on_grid, middle_of_best, threshold_grid
from metasiam.models.files import EmbedderInfo
from metasiam.options.evaluation import ProtocolSettings

Threshold = Callable[[TaskResult], float | None]


def own(rule: str) -> Threshold:
    """Return the domain's own threshold by a rule, neither shrunk nor predicted; None where it has no pairs."""

    def found(result: TaskResult) -> float | None:
        if result.known is None or not result.known.answerable:
            return None
        return ThresholdCalibrator(rule).fit(*result.known).threshold  # type: ignore[arg-type]

    return found


KINDS: dict[str, Threshold] = {
    "fixed 0.2": lambda result: result.thresholds["fixed"],
    "global": lambda result: result.thresholds["global"],
    "own, best accuracy": own("balanced_accuracy"),
    "own, equal errors": own("eer"),
    "per task (shrunk or predicted)": lambda result: result.thresholds["per_task"],
    "oracle": lambda result: result.thresholds["oracle"],
}


def table(results: Sequence[TaskResult]) -> dict[str, dict[str, dict[str, float]]]:
    """Return by regime and shots, and by kind: mean accuracy and mean distance to the oracle, in percent."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for regime in ("closed", "antidomain"):
        for shots in dict.fromkeys(r.shots for r in results):
            tasks = [r for r in results if (r.part, r.regime, r.shots) == ("held_out", regime, shots)]
            row: dict[str, dict[str, float]] = {}
            for kind, threshold in KINDS.items():
                chosen = [threshold(task) for task in tasks]
                if any(value is None for value in chosen):
                    continue
                right = [_accuracy(ScoredPairs(t.scores, t.same), v) for t, v in zip(tasks, chosen, strict=True)]
                row[kind] = {"accuracy": sum(right) / len(right)}
            for values in row.values():
                values["to_oracle"] = row["oracle"]["accuracy"] - values["accuracy"]
            found[f"{regime}, {shots}"] = row
    return found


def _accuracy(pairs: ScoredPairs, threshold: float | None) -> float:
    return 100 * float(accuracy_on_grid(pairs, torch.tensor([threshold], dtype=torch.float64))[0])


def normalised(
    embedder: torch.nn.Module, info: EmbedderInfo, domains: DomainSet, split: Split, draws: Draws
) -> dict[str, dict[str, float]]:
    """Return, unadapted and closed: plain and cohort-normalised scores at their own global threshold and oracle.

    The cohort are the seen domains' mean embeddings (of the protocol's calibration negatives).
    """
    tasks = [task for task in draws.tasks if task.part == "held_out" and task.regime == "closed"]
    wanted = [task.images for task in tasks] + [draws.negatives, *draws.calibration.values()]
    embedded = embed_all(embedder, info, domains, wanted)
    rows = torch.nn.functional.normalize(embedded.rows, dim=1) if info.distance == "cosine" else embedded.rows
    owners = domains.labels.cpu()[draws.negatives]
    cohort = torch.stack([embedded[draws.negatives[owners == domain]].mean(0) for domain in owners.unique()])
    found = {}
    for name, normaliser in (
        ("plain", None),
        ("all prototypes", CohortNormaliser(cohort, info.distance)),
        ("10 nearest prototypes", CohortNormaliser(cohort, info.distance, nearest=10)),
    ):

        def score(first: torch.Tensor, second: torch.Tensor, by: CohortNormaliser | None = normaliser) -> torch.Tensor:
            raw = embedded.similarity(first, second)
            return raw if by is None else by.normalise(raw, rows, embedded.places(first), embedded.places(second))

        learned = [
            _calibration_pairs(images, domain, domains, draws, score) for domain, images in draws.calibration.items()
        ]
        grid = threshold_grid(learned)
        threshold = middle_of_best(grid, torch.stack([accuracy_on_grid(pairs, grid) for pairs in learned]).mean(0))
        tested = [ScoredPairs(score(t.pairs.first, t.pairs.second), t.pairs.same) for t in tasks]
        found[name] = {
            "global": sum(_accuracy(pairs, threshold) for pairs in tested) / len(tested),
            "oracle": sum(100 * float(accuracy_on_grid(p, threshold_grid([p])).max()) for p in tested) / len(tested),
        }
    return found


def _calibration_pairs(
    images: torch.Tensor,
    domain: int,
    domains: DomainSet,
    draws: Draws,
    score: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
) -> ScoredPairs:
    others = draws.negatives[domains.labels.cpu()[draws.negatives] != domain]
    i, j = torch.triu_indices(len(images), len(images), 1)
    first = torch.cat((images[i], images.repeat_interleave(20)))
    second = torch.cat((images[j], others[torch.arange(20 * len(images)) % len(others)]))
    return ScoredPairs(score(first, second), torch.arange(len(first)) < len(i))


def as_markdown(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """Return the table of accuracies, with the distance to the oracle in brackets."""
    lines = ["| negatives, images | " + " | ".join(KINDS) + " |", "| --- " * (len(KINDS) + 1) + "|"]
    for name, row in found.items():
        cells = [
            f"{row[kind]['accuracy']:.1f} (−{row[kind]['to_oracle']:.1f})" if kind in row else "" for kind in KINDS
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines).replace(" (−0.0)", "")


def main() -> None:
    parser = options(
        "What each kind of threshold calibration gains.",
        weights="", arch=None, held_out=10, validation=0, shots="0,5,20", pairs=2000, name="published",
    )  # fmt: skip
    arguments = parser.parse_args()
    domains = benchmark_domains(arguments.data, images=60 if arguments.quick else 600)
    split = ms.split_domains(domains, held_out=arguments.held_out, validation=arguments.validation)
    shots = tuple(word if word == "all" else int(word) for word in arguments.shots.split(","))
    pairs, resamples = (100, 100) if arguments.quick else (arguments.pairs, 1000)
    settings = ProtocolSettings(
        shots=shots, seed=arguments.seed, pairs=pairs, triplets=pairs, episodes=0, seen=False, bootstrap=resamples
    )
    if arguments.weights:
        embedder, info = ms.load_embedder(arguments.weights, arch=arguments.arch)
    else:  # only to show that it runs
        embedder = ms.build_embedder(arguments.arch or "resnet8").eval()
        info = ms.EmbedderInfo(arch=arguments.arch or "resnet8", image_size=domains.image_size)
    draws = draw_protocol(domains, split, settings)
    evaluation = evaluate(embedder, info, domains, split, settings, draws=draws)
    found = table(evaluation.results)
    results = {
        "thresholds": found,
        "score_normalisation": normalised(embedder, info, domains, split, draws),
        "evaluation": evaluation.data,
    }
    print(as_markdown(found))
    print(json.dumps(results["score_normalisation"], indent=1))
    arguments.weights = Path(arguments.weights).name
    save(f"calibration-{arguments.name}", arguments, results)


if __name__ == "__main__":
    main()
