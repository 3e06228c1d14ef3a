"""Which rule for a new domain's threshold comes nearest to the oracle, on domains that no test of ours looks at.

    python -m benchmarks.threshold_rules --data folder:CIFAR100 --weights classic-50-50.pt --arch resnet56

The published 50-50 weights were trained on domains 0 to 49, and our tests hold out 90 to 99: so domains 50 to 89 are
free to choose on. Ten of them, drawn at random, play the validation domains, the other thirty the new ones; only
training images are used. Printed is the mean distance to each new domain's best threshold, in points, over the draws,
where validation domains teach and where only domains that were trained on can.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import torch
from torch import Tensor

import metasiam as ms
from benchmarks.data import benchmark_domains
from benchmarks.harness import options, save
from metasiam.evaluation.calibration import ThresholdCalibrator, shrink
from metasiam.evaluation.embedded import embed_all
from metasiam.evaluation.scored_pairs import accuracy_on_grid
from metasiam.evaluation.solved import default_stretch
from metasiam.evaluation.trials import Trial, Trials, act_out, calibrate_on_trials
from metasiam.evaluation.verification import best_threshold
from metasiam.training.machine import generator_for

STRENGTHS = (5, 20, 50)


def distance_to_oracle(trial: Trial, threshold: float) -> float:
    """Return how many points the threshold is from the best one on the case's other images."""
    found = accuracy_on_grid(trial.test, torch.tensor([threshold], dtype=torch.float64))
    return 100 * (best_threshold(*trial.test)[1] - float(found[0]))


def rules(taught: Trials, new: Trials, k: int) -> dict[str, float]:
    """Return each rule's mean distance to the oracle over the new domains, learned on the taught ones."""
    learned = calibrate_on_trials(taught, strength=None, source="", predict=True)
    found: dict[str, list[float]] = {}
    for trial in (trial for of in new.values() for trial in of):
        tried = {"global": learned.threshold}
        for name, rule in (("best cut", "balanced_accuracy"), ("equal errors", "eer")):
            own = ThresholdCalibrator(rule).fit(*trial.known).threshold  # type: ignore[arg-type]
            for strength in STRENGTHS:
                tried[f"{name}, shrunk with {strength} images"] = shrink(own, learned.threshold, k, strength)
        if learned.prediction is not None:
            tried["predicted"] = learned.prediction.predict(trial.known)
            tried["predicted and own, averaged"] = learned.for_task(trial.known, k).threshold
        for name, threshold in tried.items():
            found.setdefault(name, []).append(distance_to_oracle(trial, threshold))
    return {name: statistics.mean(values) for name, values in found.items()}


def main() -> None:
    parser = options(__doc__.splitlines()[0], weights="", arch=None, seen=50, free=40, taught=10, draws=8, images=200)
    arguments = parser.parse_args()
    domains = benchmark_domains(arguments.data, images=60 if arguments.quick else 600)
    if arguments.quick:
        arguments.draws, arguments.images = 1, 30
    if arguments.weights:
        embedder, info = ms.load_embedder(arguments.weights, arch=arguments.arch)
    else:  # only to show that it runs
        embedder, info = ms.build_embedder("resnet8").eval(), ms.EmbedderInfo("resnet8", image_size=domains.image_size)
    seen, free = range(arguments.seen), range(arguments.seen, arguments.seen + arguments.free)
    drawn = generator_for("cpu", arguments.seed, "images")
    kept = {
        d: domains.pool([d], "train").shots(40 if d in seen else arguments.images, drawn).images for d in (*seen, *free)
    }
    embedded = embed_all(embedder, info, domains, kept.values())
    rows = {domain: embedded[images] for domain, images in kept.items()}
    negatives = torch.cat([rows[domain] for domain in seen])
    owners = torch.tensor(list(seen)).repeat_interleave(40)

    def acted(chosen: list[int], k: int, stretch: float, seed: int) -> dict[int, list[Trial]]:
        own: dict[int, Tensor] = {domain: rows[domain] for domain in chosen}
        generator = generator_for("cpu", seed, "trials", k)
        draws = 2 if chosen[0] in free else 1
        return act_out(own, negatives, owners, info.distance, generator, k=k, draws=draws, stretch=stretch)

    found: dict[str, dict[str, float]] = {}
    for k in (5, 20):
        for stretch in (0.0, default_stretch(k)):
            for teachers in ("validation domains", "domains trained on"):
                collected: dict[str, list[float]] = {}
                for draw in range(arguments.draws):
                    order = torch.randperm(
                        arguments.free, generator=generator_for("cpu", arguments.seed, "order", draw)
                    )
                    shuffled = [free[place] for place in order.tolist()]
                    taught = shuffled[: arguments.taught] if teachers == "validation domains" else list(seen)
                    values = rules(
                        acted(taught, k, stretch, draw),
                        acted(shuffled[arguments.taught :], k, stretch, draw),
                        k,
                    )
                    for name, value in values.items():
                        collected.setdefault(name, []).append(value)
                head = f"stretch {stretch:g}" if stretch else "no head"
                key = f"{k} images, {head}, taught by {teachers}"
                found[key] = {name: round(statistics.mean(values), 3) for name, values in collected.items()}
                print(key, json.dumps(found[key], indent=1), flush=True)
    arguments.weights = Path(arguments.weights).name
    save("threshold_rules", arguments, found)


if __name__ == "__main__":
    main()
