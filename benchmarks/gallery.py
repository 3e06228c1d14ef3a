"""Own pictures on held-out CIFAR-100 classes: 8 of 10 enrolled with 5 images each, the other two are strangers.

    python benchmarks/gallery.py benchmarks/results/cifar100-triplet-9-minutes.safetensors --data folder:CIFAR100
    python benchmarks/gallery.py … --people LFW/lfw_funneled

The gallery, as ``metasiam enroll`` makes it (averaged with the mirrored image, background of seen domains, per-name
thresholds), next to plain nearest centroid on the same pictures. The plain one has no threshold of its own; it gets,
each time, the one at which it accepts just as many strangers as the gallery did, which no user could know.

How far what is said is from what is right is measured with half of the questions about strangers, as is assumed: of all
draws' questions together. Of a single draw it is farther, as its two strangers happen to look like a name or do not.
With people, 15 of them are enrolled too, with the same embedder and background, and 60 others come as strangers: a kind
of pictures that neither was made for.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor

import metasiam as ms
from metasiam.evaluation.embedding import embed_images
from metasiam.gallery.calibrate import Background, calibrate
from metasiam.gallery.pictures import embed_pictures
from metasiam.gallery.posterior import probabilities
from metasiam.gallery.scoring import NameScorer
from metasiam.models.files import EmbedderInfo
from metasiam.training.machine import choose_device, describe_machine
from metasiam.wording import counted

HERE = Path(__file__).resolve().parent
KNOWN, SHOTS, BACKGROUND_IMAGES, ENROL_FROM = 8, 5, 20, 100
RATES = (0.05, 0.1, 0.2, 0.3)
PEOPLE, STRANGERS, LEAST_PICTURES, MOST_PICTURES = 15, 60, 8, 14


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("weights")
    options.add_argument("--arch")
    options.add_argument("--data", default="cifar100")
    options.add_argument("--data-dir", type=Path)
    options.add_argument("--held-out", type=int, default=10)
    options.add_argument("--draws", type=int, default=40, help="of the 8 names and their 5 images")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--people", type=Path, help="folder with a folder of pictures for each person")
    options.add_argument("--out", default="gallery.json")
    given = options.parse_args()
    domains = ms.load_domains(given.data, data_dir=given.data_dir)
    split = ms.split_domains(domains, held_out=given.held_out)
    embedder, info = ms.load_embedder(given.weights, arch=given.arch)
    seen = torch.cat([domains.pool([d], "test").images[:BACKGROUND_IMAGES] for d in split.seen])
    enrolled = torch.cat([domains.pool([d], "train").images[:ENROL_FROM] for d in split.held_out])
    tested = domains.pool(split.held_out, "test").images
    index = torch.cat((seen, enrolled, tested))
    part = torch.tensor([0, 1, 2]).repeat_interleave(torch.tensor([len(seen), len(enrolled), len(tested)]))
    rows = {mirror: embed_images(embedder, info, domains, index, mirror=mirror) for mirror in (False, True)}
    draws = [
        one_draw(rows, domains.labels[index], part, split.held_out, info, torch.Generator().manual_seed(given.seed + i))
        for i in range(given.draws)
    ]
    result = {
        "command": f"python benchmarks/gallery.py WEIGHTS --data {given.data.split(':')[0]}"
        + (" --people FOLDER" if given.people is not None else ""),
        "weights": Path(given.weights).name,
        "machine": describe_machine(choose_device("cpu")),
        "settings": {"known": KNOWN, "shots": SHOTS, "draws": given.draws, "seed": given.seed, "split": split.name},
        **summary(draws),
    }
    if given.people is not None:
        background = seen_background(rows[True], domains.labels[index], part)
        result["people"] = people(given.people, embedder, info, background, given.draws, given.seed)
    print(json.dumps(result, indent=1))
    (HERE / "results" / given.out).write_text(json.dumps(result, indent=1) + "\n")


def one_draw(
    rows: dict[bool, Tensor],
    labels: Tensor,
    part: Tensor,
    held_out: tuple[int, ...],
    info: EmbedderInfo,
    generator: torch.Generator,
) -> dict[str, Tensor | float]:
    """Enrol 8 of the domains with 5 images each, identify the test images of all; fractions."""
    order = [held_out[i] for i in torch.randperm(len(held_out), generator=generator).tolist()]
    chosen = []
    for domain in order[:KNOWN]:
        own = ((labels == domain) & (part == 1)).nonzero().flatten()
        chosen.append(own[torch.randperm(len(own), generator=generator)[:SHOTS]])
    pictures, names = torch.cat(chosen), torch.arange(KNOWN).repeat_interleave(SHOTS)
    asked = (part == 2).nonzero().flatten()
    place = {domain: name for name, domain in enumerate(order[:KNOWN])}
    truth = torch.tensor([place.get(domain, -1) for domain in labels[asked].tolist()])
    background = seen_background(rows[True], labels, part)
    rules = calibrate(rows[True][pictures], names, KNOWN, info, background)

    def scores(mirror: bool, cohort: Tensor | None) -> Tensor:
        scorer = NameScorer.of(rows[mirror][pictures], names, KNOWN, info.distance, cohort)
        return scorer.scores(rows[mirror][asked])

    normalised = scores(True, background.prototypes())
    moved = rules.log_odds(normalised)
    margin, name = moved.max(1)
    accepted = margin > 0
    strangers = int((accepted & (truth < 0)).sum())
    plain, mirrored = scores(False, None), scores(True, None)
    found: dict[str, Tensor | float] = {
        "false_accept_rate": float(accepted[truth < 0].float().mean()),
        "unknown_rejection": 1 - float(accepted[truth < 0].float().mean()),
        "gallery_right": float((accepted & (name == truth))[truth >= 0].float().mean()),
        "plain_right_at_same_rate": right_at(plain, truth, strangers),
        "plain_mirrored_right_at_same_rate": right_at(mirrored, truth, strangers),
        "gallery_closed": float((name == truth)[truth >= 0].float().mean()),
        "plain_closed": float((plain.argmax(1) == truth)[truth >= 0].float().mean()),
    }
    for gain, other in (("gain", "plain"), ("gain_beyond_mirroring", "plain_mirrored")):
        found[gain] = found["gallery_right"] - found[f"{other}_right_at_same_rate"]
    found |= reliability(moved, truth)
    count = int((truth < 0).sum())
    for rate in RATES:
        found[f"gallery_right_at_{rate:g}"] = right_at(moved, truth, round(rate * count))
        found[f"plain_right_at_{rate:g}"] = right_at(plain, truth, round(rate * count))
    return found


def seen_background(rows: Tensor, labels: Tensor, part: Tensor) -> Background:
    """Return the seen domains' images as a gallery's background."""
    return Background(rows[part == 0], labels[part == 0], torch.zeros(int((part == 0).sum()), 6), "seen")


def people(
    folder: Path, embedder: torch.nn.Module, info: EmbedderInfo, background: Background, draws: int, seed: int
) -> dict[str, object]:
    """Enrol people with one and with five pictures each, and ask about their other pictures and about strangers."""
    persons = [sorted(path.glob("*.jpg"))[:MOST_PICTURES] for path in sorted(folder.iterdir()) if path.is_dir()]
    persons = [pictures for pictures in persons if len(pictures) >= LEAST_PICTURES]
    labels = torch.arange(len(persons)).repeat_interleave(torch.tensor([len(pictures) for pictures in persons]))
    files = [picture for pictures in persons for picture in pictures]
    rows = embed_pictures(embedder, info, files, mirror=True).embeddings
    result = {}
    for shots in (1, SHOTS):
        found = []
        for draw in range(draws):
            generator = torch.Generator().manual_seed(seed + draw)
            order = torch.randperm(len(persons), generator=generator)
            places = [(labels == person).nonzero().flatten() for person in order[:PEOPLE]]
            places = [rows_of[torch.randperm(len(rows_of), generator=generator)] for rows_of in places]
            others = torch.isin(labels, order[PEOPLE : PEOPLE + STRANGERS]).nonzero().flatten()
            pictures, names = rows[torch.cat([p[:shots] for p in places])], torch.arange(PEOPLE)
            asked = torch.cat([*(p[shots:] for p in places), others])
            counts = torch.tensor([*(len(p) - shots for p in places), len(others)])
            truth = torch.tensor([*range(PEOPLE), -1]).repeat_interleave(counts)
            own = names.repeat_interleave(shots)
            rules = calibrate(pictures, own, PEOPLE, info, background)
            scorer = NameScorer.of(pictures, own, PEOPLE, info.distance, background.prototypes())
            found.append(reliability(rules.log_odds(scorer.scores(rows[asked])), truth))
        result[counted(shots, "picture")] = summary(found)
    return result


def summary(draws: list[dict[str, Tensor | float]]) -> dict[str, object]:
    """Return intervals over draws, percent; of the gaps of each tenth, the sum for each draw and for all together."""
    found: dict[str, object] = {}
    for key in draws[0]:
        values = [draw[key] for draw in draws]
        if isinstance(values[0], Tensor):
            gaps = torch.stack([torch.as_tensor(value) for value in values])
            found[key] = round(100 * float(gaps.mean(0).abs().sum()), 2)
            found[f"{key}_of_a_draw"] = interval(gaps.abs().sum(1).tolist())
        else:
            found[key] = interval([float(value) for value in values])
    return found


def reliability(log_odds: Tensor, truth: Tensor) -> dict[str, Tensor | float]:
    """Return what becomes of pictures (−1: strangers, who count half), and how far what is said is from the truth.

    How far: float [10], for each tenth of what can be said, the pictures' share times how much too high it is.
    """
    said, answer = probabilities(log_odds).max(1)
    unknown, names = probabilities(log_odds)[:, -1], log_odds.shape[1]
    stranger, right = truth < 0, answer == torch.where(truth < 0, names, truth)
    weight = torch.where(stranger, 0.5 / stranger.sum(), 0.5 / (~stranger).sum()).double()

    def off(chance: Tensor, came: Tensor) -> Tensor:
        tenth = (chance * 10).long().clamp(max=9)
        gaps = (weight * (chance - came.double())).double()
        return torch.zeros(10, dtype=torch.float64).index_add_(0, tenth, gaps)

    return {
        "strangers_refused": float((answer == names)[stranger].double().mean()),
        "named_rightly": float(right[~stranger].double().mean()),
        "named_wrongly": float(((answer != names) & ~right)[~stranger].double().mean()),
        "calibration_error_of_the_answer": off(said, right),
        "calibration_error_of_unknown": off(unknown, stranger),
    }


def right_at(scores: Tensor, truth: Tensor, strangers: int) -> float:
    """Return the share of known queries named rightly at the threshold that lets just so many strangers in."""
    top, name = scores.max(1)
    let_in = top[truth < 0].sort(descending=True).values
    threshold = float(let_in[strangers]) if strangers < len(let_in) else float("-inf")
    return float(((top > threshold) & (name == truth))[truth >= 0].float().mean())


def interval(values: list[float]) -> dict[str, object]:
    """Return mean and 95 % interval over draws, percent."""
    drawn = 100 * torch.tensor(values, dtype=torch.float64)
    half = 1.96 * float(drawn.std()) / len(drawn) ** 0.5
    mean = float(drawn.mean())
    return {"mean": round(mean, 2), "ci95": [round(mean - half, 2), round(mean + half, 2)], "n": len(drawn)}


if __name__ == "__main__":
    main()
