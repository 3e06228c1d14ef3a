"""The balanced protocol: one call that tests an embedder on its split, and returns ``evaluation.json``'s dict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split
from metasiam.errors import MetaSiamError
from metasiam.evaluation.adaptation import HeadedEmbedder, adapt
from metasiam.evaluation.calibration import crossfit_folds
from metasiam.evaluation.curves import accuracy_over_steps
from metasiam.evaluation.draws import Draws, TaskDraw, draw_protocol, seen_sample
from metasiam.evaluation.embedded import EmbeddedImages, embed_all
from metasiam.evaluation.episodes import accuracy_of_classes, all_way_accuracy, episode_accuracy
from metasiam.evaluation.inference import SEEN_IMAGES, wrap
from metasiam.evaluation.learning import learn_from_others
from metasiam.evaluation.logistic import logistic_accuracy
from metasiam.evaluation.plans import ChosenPlan
from metasiam.evaluation.reference import reference_images, reference_protocol
from metasiam.evaluation.result import Evaluation, TaskResult, assemble
from metasiam.evaluation.scored_pairs import ScoredPairs, join, on_scale_of, score_images, thin
from metasiam.evaluation.solved import Background, leave_out_scores, solve_head
from metasiam.evaluation.thresholds import MANY, Calibration, TaskCalibration
from metasiam.evaluation.verification import best_threshold
from metasiam.models.files import EmbedderInfo, device_of
from metasiam.options.evaluation import WRAPPING, ProtocolSettings
from metasiam.progress import SILENT, Listener
from metasiam.training.machine import generator_for
from metasiam.wording import counted

#: Where a domain's images are many, so many of five folds are held back in turn to calibrate on: each costs one
#: adaptation, and one alone hangs on the chance of its steps.
FOLDS_OF_MANY = 2
#: The threshold of the published classic system, for embedders without one of their own.
SEED_THRESHOLD = 0.2


def evaluate(
    embedder: nn.Module,
    info: EmbedderInfo,
    domains: DomainSet,
    split: Split,
    settings: ProtocolSettings | None = None,
    *,
    draws: Draws | None = None,
    listener: Listener = SILENT,
) -> Evaluation:
    """Test an embedder by the balanced protocol (PROTOCOL: seen and held-out domains, adaptation, calibration).

    The embedder is left exactly as it was. Everything random is drawn on the CPU from ``settings.seed``, so
    every embedder meets the same images.

    Args:
        embedder: any module that maps normalised float [B, C, H, W] to [B, D], on the device to compute on.
        info: how its images are normalised and its embeddings compared.
        domains: all images, of the size that the embedder takes; to one of colour, grey ones show three equal
            channels, and to one of grey, coloured ones are shown in grey.
        split: seen, validation and held-out domains.
        settings: what to measure; default ``ProtocolSettings()``.
        draws: from ``draw_protocol`` with the same domains, split and settings, to share between methods.
        listener: told how far it is.

    Raises:
        MetaSiamError: if a domain has too few images for what was asked, or embeddings are not finite numbers.
    """
    settings = settings if settings is not None else ProtocolSettings()
    drawn = draws if draws is not None else draw_protocol(domains, split, settings)
    domains = domains.with_channels(info.channels).to(device_of(embedder))
    if set(settings.inference) & set(WRAPPING):
        listener.progress("learning from seen domains", 0, 1)
        seen = seen_sample(domains, split, SEEN_IMAGES, settings)
        embedder, info = wrap(embedder, info, domains, seen, settings.inference)
        listener.progress("learning from seen domains", 1, 1)
    return _Evaluator(embedder, info, domains, split, settings, drawn, listener).run()


@dataclass
class _Evaluator:
    """One evaluation under way."""

    embedder: nn.Module
    info: EmbedderInfo
    domains: DomainSet
    split: Split
    settings: ProtocolSettings
    draws: Draws
    listener: Listener
    base: EmbeddedImages = field(init=False)  #: embeddings by the weights as they came
    negatives: Tensor = field(init=False)  #: embeddings of ``draws.negatives`` by the weights as they came
    background: Background = field(init=False)  #: of seen training images, for solved heads
    calibration: Calibration = field(init=False)  #: of the weights as they came
    plans: dict[str, ChosenPlan] = field(init=False)  #: by number of images

    def run(self) -> Evaluation:
        if "balanced" not in self.settings.protocols:
            return Evaluation({"schema": 1, "protocol": self._settings(), "reference_protocol": self._reference(None)})
        self._say("embedding", 0, 1)
        self.base = self._embed(self.embedder, self._unadapted_images())
        self._say("embedding", 1, 1)
        learned = learn_from_others(
            self.embedder, self.info, self.domains, self.split, self.settings, self.draws, self.base, self.listener
        )
        self.negatives, self.background = learned.acted.negatives, learned.background
        self.calibration, self.plans = learned.calibration, learned.plans
        results = [self._score(draw, "0", self.base, self._known_nothing()) for draw in self._tasks("seen")]
        for shots, chosen in self.plans.items():
            results += self._unadapted(shots, chosen) if chosen.plan.leaves_unadapted else self._adapted(shots, chosen)
        episodes, of_classes = self._episodes()
        each = {name: accuracy.unsqueeze(0) for name, accuracy in episodes.items()}
        data = assemble(self._protocol(), [results], each, self.settings)
        if self.settings.curve_steps and self.draws.shots:
            data["held_out"]["adaptation_steps"] = accuracy_over_steps(
                self.embedder, self.info, self.domains, self.draws, self.plans, self.settings, listener=self.listener
            )
        if "reference" in self.settings.protocols:
            data["reference_protocol"] = self._reference(self.base)
        return Evaluation(data, tuple(results), episodes, of_classes)

    def _reference(self, embedded: EmbeddedImages | None) -> dict[str, Any]:
        return reference_protocol(
            self.embedder,
            self.info,
            self.domains,
            self.split,
            self.settings,
            embedded=embedded,
            listener=self.listener,
        )

    def _say(self, what: str, done: int, total: int) -> None:
        self.listener.progress(what, done, total)

    def _embed(self, embedder: nn.Module, indices: list[Tensor]) -> EmbeddedImages:
        embedded = embed_all(embedder, self.info, self.domains, indices, mirror=self.settings.mirror)
        if not bool(embedded.rows.isfinite().all()):
            raise MetaSiamError(
                f"this {self.info.arch} makes NaN or infinite embeddings (training diverged). Retrain with "
                "a lower --lr, or use other weights."
            )
        return embedded

    def _tasks(self, part: str) -> list[TaskDraw]:
        return [draw for draw in self.draws.tasks if draw.part == part]

    def _unadapted_images(self) -> list[Tensor]:
        draws = self.draws
        indices = [task.images for task in draws.tasks] + [draws.negatives, *draws.calibration.values()]
        indices += [draws.held_out_test.images] if draws.held_out_test is not None else []
        indices += reference_images(self.domains, self.split) if "reference" in self.settings.protocols else []
        return indices + [images for by_domain in draws.shots.values() for images in by_domain.values()]

    def _known_nothing(self) -> TaskCalibration:
        return self.calibration.for_task(ScoredPairs(torch.empty(0), torch.empty(0, dtype=torch.bool)), 0)

    def _unadapted(self, shots: str, chosen: ChosenPlan) -> Iterator[TaskResult]:
        """Score the held-out tasks with the weights as they are; k images still give each its own threshold."""
        for draw in self._tasks("held_out"):
            calibration, pairs = self._known_nothing(), None
            if shots != "0":
                own = self.draws.shots[shots][draw.domain]
                pairs = score_images(self.base[own], self.negatives, self.info.distance)
                calibration = (chosen.calibration or self.calibration).for_task(pairs, len(own))
            yield self._score(draw, shots, self.base, calibration, pairs)

    def _adapted(self, shots: str, chosen: ChosenPlan) -> Iterator[TaskResult]:
        """Adapt to one held-out domain after the other, from the same start, and score its tasks."""
        calibration = chosen.calibration if chosen.calibration is not None else self.calibration
        for number, (domain, own) in enumerate(self.draws.shots[shots].items()):
            self._say(f"adapting to {counted(shots, 'image')}", number, len(self.split.held_out))
            tasks = [draw for draw in self._tasks("held_out") if draw.domain == domain]
            needed = [draw.images for draw in tasks] + [own, self.draws.negatives]
            embedded = self._adapted_embeddings(own, chosen, (domain, shots), needed)
            pairs = self._crossfitted(own, chosen, domain, shots, embedded)
            task_calibration = calibration.for_task(pairs, len(own))
            for draw in tasks:
                yield self._score(draw, shots, embedded, task_calibration, pairs)

    def _adapted_embeddings(
        self, own: Tensor, chosen: ChosenPlan, stream: tuple[int | str, ...], indices: list[Tensor]
    ) -> EmbeddedImages:
        if not chosen.plan.trains:  # the features stay the same
            head = solve_head(self.base[own], self.background, chosen.plan.stretch, self.info.distance)
            return self.base.transformed(head.float())
        generator = generator_for("cpu", self.settings.seed, "adaptation", *stream)
        adapted = adapt(
            self.embedder,
            self.info,
            self.domains,
            own,
            self.draws.adaptation_negatives,
            chosen.plan,
            generator,
        )
        if isinstance(adapted, HeadedEmbedder) and not self.settings.mirror:
            return self.base.transformed(adapted.head.weight.detach())  # the features below are the same
        return self._embed(adapted, indices)

    def _crossfitted(
        self, own: Tensor, chosen: ChosenPlan, domain: int, shots: str, embedded: EmbeddedImages
    ) -> ScoredPairs:
        """Score a domain's k images by embedders adapted without them: each fold by one adapted to the others.

        Where images are many, two of five folds are enough to calibrate on, brought to the scale of ``embedded``, the
        embeddings adapted to all: no two runs of steps end on the same one.
        """
        if not chosen.plan.trains:
            rows, stretch = self.base[own], chosen.plan.stretch
            return leave_out_scores(rows, self.negatives, self.background, stretch, self.info.distance)
        many = len(own) >= MANY
        folds = 5 if many else min(self.settings.folds, len(own) // 2)
        if folds < 2:
            return ScoredPairs(torch.empty(0), torch.empty(0, dtype=torch.bool))
        parts = []
        generator = generator_for("cpu", self.settings.seed, "folds", domain, shots)
        negatives = self.draws.negatives
        final = score_images(embedded[own], embedded[negatives], self.info.distance) if many else None
        parts_of = crossfit_folds(own, generator, folds=folds)
        for number, (adapt_on, score_on) in enumerate(parts_of[:FOLDS_OF_MANY] if many else parts_of):
            stream = (domain, shots, "fold", number)
            without = self._adapted_embeddings(adapt_on, chosen, stream, [score_on, negatives])
            part = score_images(without[score_on], without[negatives], self.info.distance)
            parts.append(part if final is None else on_scale_of(part, final.scores[~final.same]))
        return join(parts)

    def _score(
        self,
        draw: TaskDraw,
        shots: str,
        embedded: EmbeddedImages,
        calibration: TaskCalibration,
        known_pairs: ScoredPairs | None = None,
    ) -> TaskResult:
        pairs = draw.pairs
        scores = embedded.similarity(pairs.first, pairs.second)
        adapted_to = self.plans.get(shots) if draw.part == "held_out" else None
        known = adapted_to.calibration if adapted_to is not None and adapted_to.calibration else self.calibration
        return TaskResult(
            domain=draw.domain,
            name=self.domains.names[draw.domain],
            part=draw.part,
            regime=draw.regime,
            shots=shots,
            scores=scores,
            same=pairs.same,
            probability=calibration.probability.predict(scores),
            pair_images=torch.stack((pairs.first, pairs.second)),
            triplets_right=embedded.triplets_right(draw.triplets),
            triplet_images=draw.triplets,
            thresholds={
                "fixed": self._fixed_threshold(),
                "global": known.threshold,
                "per_task": calibration.threshold,
                "oracle": best_threshold(scores, pairs.same)[0],
            },
            known=thin(known_pairs) if known_pairs is not None else None,
        )

    def _fixed_threshold(self) -> float:
        """Return the threshold that was given, the published one for cosines, or else the stored or global one."""
        if self.settings.threshold is not None:
            return self.settings.threshold
        if self.info.distance == "cosine":
            return SEED_THRESHOLD
        return self.calibration.threshold if self.info.threshold is None else self.info.threshold

    def _episodes(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the accuracy of every episode, float [E], and of every held-out domain, float [D], by kind."""
        draws, pool = self.draws, self.draws.held_out_test
        found: dict[str, Tensor] = {}
        of_classes: dict[str, Tensor] = {}
        if pool is None:
            return found, of_classes

        def keep(name: str, shares: Tensor, domains: Tensor) -> None:
            found[name] = shares.mean(1)
            of_classes[name] = accuracy_of_classes(shares, domains, pool.domains)

        for name, episodes in draws.episodes.items():
            places = episodes._replace(
                support=self.base.places(episodes.support), query=self.base.places(episodes.query)
            )
            keep(name, episode_accuracy(self.base.rows, places, self.info.distance), episodes.domains)
            if "logistic" in self.settings.inference:
                accuracy = logistic_accuracy(self.base.rows, places, self.info.distance)
                keep(f"{name} logistic", accuracy, episodes.domains)
        if len(draws.supports):
            shares = all_way_accuracy(self.base[pool.images], pool, draws.supports, self.info.distance).cpu()
            queries = pool.counts.to(shares) - 1  # a domain's share of all answers is that of its images
            found["all-way 1-shot"] = shares @ (queries / queries.sum())
            of_classes["all-way 1-shot"] = shares.double().mean(0)
        return found, of_classes

    def _protocol(self) -> dict[str, Any]:
        return {
            **self._settings(),
            "global_threshold": self.calibration.threshold,
            "global_threshold_from": self.calibration.source,
            "shrinkage_strength": self.calibration.strength,
            "plans": {shots: chosen.as_dict() for shots, chosen in self.plans.items()},
            "plans_tried": {shots: chosen.tried for shots, chosen in self.plans.items() if chosen.tried},
            # As many as were asked for, unless a domain has fewer test images.
            "episode_queries": {name: episodes.query.shape[2] for name, episodes in self.draws.episodes.items()},
        }

    def _settings(self) -> dict[str, Any]:
        return {
            **self.settings.as_dict(),
            "data": self.domains.source,
            "fingerprint": self.domains.fingerprint,
            "split": self.split.as_dict(),
            "distance": self.info.distance,
        }
