"""Faces on LFW's development pairs: the ablation by cross-validation, and the runs behind the published figures.

    python benchmarks/faces.py ablation --data-dir DIR     # the training pairs only: what each choice is worth
    python benchmarks/faces.py runs --data-dir DIR         # the presets, each tested once

DIR is where ``metasiam --data lfw`` keeps its data. Results go to ``benchmarks/results/faces``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

import torch

from metasiam.cli import run as metasiam_command
from metasiam.data.pairs import PairSet
from metasiam.data.sources import load_pairs
from metasiam.evaluation.verification import best_threshold, pairs_right, roc_auc
from metasiam.learners.pair_model import PairModel, build_pair_model
from metasiam.learners.solved_head import SolvedHead
from metasiam.options.pairs import SiameseOptions
from metasiam.pair_session import fit_embedder

RESULTS = Path(__file__).parent / "results" / "faces"
#: Pixels cut out of the middle, embedder, and whether mirrored images are averaged in as well.
EMBEDDINGS = ((150, "fisher", True), (150, "fisher-256", True), (120, "fisher", False), (190, "fisher", False))
HEADS = ((0.0, 1.0), (0.25, 1.0), (0.5, 1.0), (1.0, 1.0), (0.0, 0.3), (0.25, 0.3))  # weight of |a − b|, penalty C


def ablation(data_dir: Path, out: Path) -> None:
    """Cross-validate embeddings and heads on the training pairs; the test pairs are not looked at."""
    rows = []
    for crop, arch, mirrored in EMBEDDINGS:
        pairs = load_pairs("lfw", data_dir=data_dir, crop=crop, image_size=crop)
        config = SiameseOptions(arch=arch, head="features", solver="svm")
        started = time.monotonic()
        model = build_pair_model(config, pairs)
        fit_embedder(model, pairs, config, lambda *progress: None)
        used = torch.unique(torch.cat((pairs.first[pairs.rows("train")], pairs.second[pairs.rows("train")])))
        plain = model.embed(pairs.images[used])
        kinds = {"plain": plain}
        if mirrored:
            kinds["mirrored too"] = (plain + model.embed(pairs.images[used].flip(-1))) / 2
        seconds = time.monotonic() - started
        for kind, embeddings in kinds.items():
            rows.append(cosine_row(pairs, used, embeddings) | {"crop": crop, "arch": arch, "images": kind})
            for weight, penalty in HEADS:
                found = head_row(model, pairs, embeddings, weight, penalty)
                rows.append(found | {"crop": crop, "arch": arch, "images": kind, "embedding_seconds": seconds})
                sys.stdout.write(json.dumps(rows[-1]) + "\n")
                sys.stdout.flush()
                write(out / "ablation.json", {"seed": 0, "folds": 5, "threads": torch.get_num_threads(), "rows": rows})


def cosine_row(pairs: PairSet, used: torch.Tensor, embeddings: torch.Tensor) -> dict[str, object]:
    """Compare by the plain cosine: nothing is learned from any answer but the threshold."""
    place = torch.full((len(pairs.images),), -1)
    place[used] = torch.arange(len(used))
    rows = pairs.rows("train")
    units = torch.nn.functional.normalize(embeddings, dim=1)
    scores = (units[place[pairs.first[rows]]] * units[place[pairs.second[rows]]]).sum(1)
    _, accuracy = best_threshold(scores, pairs.same[rows])
    return {"head": "cosine", "accuracy": 100 * accuracy, "auc": roc_auc(scores, pairs.same[rows])}


def head_row(
    model: PairModel, pairs: PairSet, embeddings: torch.Tensor, weight: float, penalty: float
) -> dict[str, object]:
    """Cross-validate one head; each fold is answered at the threshold that the other folds' answers choose."""
    model.head.difference_weight = weight  # type: ignore[assignment]
    original = model.embed
    model.embed = lambda images, **options: embeddings  # type: ignore[method-assign]
    learner = SolvedHead(SiameseOptions(arch="fisher", head="features", solver="svm", penalty=penalty), pairs, model)
    for fold in range(learner.config.folds):
        learner.iterate(fold, lambda: False)
    model.embed = original  # type: ignore[method-assign]
    scores, same = learner.validation_scores()
    right = []
    for fold in range(learner.config.folds):
        own = learner.fold == fold
        threshold, _ = best_threshold(scores[~own], same[~own])
        right.append(pairs_right(scores[own], same[own], threshold))
    accuracy = float(torch.cat(right).double().mean())
    return {
        "head": f"features, |a − b| × {weight}, C {penalty}",
        "weight": weight,
        "penalty": penalty,
        "accuracy": 100 * accuracy,
        "auc": roc_auc(scores, same),
    }


def runs(data_dir: Path, out: Path, presets: list[str], extra: list[str]) -> None:
    """Run presets from the command line and keep what each found."""
    for preset in presets:
        folder = out / "runs" / preset
        arguments = ["siamese", "--data", "lfw", "--data-dir", str(data_dir), "--preset", preset, "--out", str(folder)]
        code = metasiam_command([*arguments, "--overwrite", *extra])
        if code:
            raise SystemExit(code)
        for name in ("config.json", "evaluation.json"):
            (RESULTS / preset).mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / name, RESULTS / preset / name)


def write(file: Path, value: object) -> None:
    """Write JSON, making the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("ablation", "runs"))
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/faces"))
    parser.add_argument("--presets", default="best,published,published-tf")
    options, extra = parser.parse_known_args()
    if options.what == "ablation":
        ablation(options.data_dir, RESULTS)
    else:
        runs(options.data_dir, options.out, options.presets.split(","), extra)


if __name__ == "__main__":
    main()
