"""Training on labelled pairs as one call: options and pairs in, a run folder with its evaluation out."""

from __future__ import annotations

import datetime
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from metasiam import catalogue
from metasiam.arguments import checked
from metasiam.data.augment import normalise
from metasiam.data.pairs import PairSet, keep_validation
from metasiam.errors import MetaSiamError
from metasiam.evaluation.pair_result import PairResult, as_evaluation, judge
from metasiam.evaluation.verification import best_threshold, roc_auc, similarity
from metasiam.learners.pair_model import PairModel, build_pair_model
from metasiam.learners.siamese import Siamese
from metasiam.learners.solved_head import SolvedHead
from metasiam.learners.trained_head import HEAD_FILE, TrainedHead, save_head
from metasiam.models.files import save_embedder
from metasiam.option_values import check_seconds
from metasiam.options.pairs import SiameseOptions
from metasiam.options.training import options_of
from metasiam.progress import SHOWN, SILENT, Listener, Relay, heard
from metasiam.runs import EMBEDDER_FILE, RUN, Run, check_new, create_run, fresh_folder, open_run
from metasiam.runs.locks import run_held
from metasiam.session import TrainingStopped
from metasiam.training.distributed import Processes
from metasiam.training.loop import TrainingLoop
from metasiam.training.machine import describe_machine, generator_for, tune_allocator


@dataclass(frozen=True)
class PairTraining:
    """What ``train_pairs`` leaves.

    Attributes:
        run: the run folder.
        pairs: the pair set with its parts as they were used.
        model: trained, in evaluation mode.
        result: the test pairs' answers.
        evaluation: the dict of ``evaluation.json``.
    """

    run: Run
    pairs: PairSet
    model: PairModel
    result: PairResult
    evaluation: dict[str, Any]


@checked
@heard
def train_pairs(
    pairs: PairSet,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    overwrite: bool = False,
    checkpoint_every: float = 120.0,
    listener: Listener | None = SHOWN,
    data_options: dict[str, Any] | None = None,
    **options: Any,
) -> PairTraining:
    """Train on the training pairs, choose on validation pairs, and answer the test pairs once.

    Args:
        pairs: with a training and a test part; a validation part is taken from the former if there is none.
        out: run folder; default ``runs/siamese-<time>``.
        resume: continue this run instead, exactly; its saved options hold.
        overwrite: replace a run that is in ``out``.
        checkpoint_every: seconds between checkpoints.
        listener: told what starts, how far it is, and what each epoch found; by default a terminal or a notebook shows
            it; None is silent.
        data_options: how the data was loaded, saved with the run so that ``--resume`` finds it again.
        options: fields of ``SiameseOptions``.

    Raises:
        MetaSiamError: for options, data or files that do not work; nothing is overwritten then.
        TrainingStopped: when the user pressed Ctrl-C; everything is saved.
    """
    check_seconds(checkpoint_every)
    catalogue.give(options.get("arch"))
    listener = listener or SILENT
    tune_allocator()
    earlier = open_run(resume) if resume is not None else None
    config = options_of(SiameseOptions, options) if earlier is None else _saved_config(earlier, pairs, options)
    config = _completed(config)
    given = pairs.fingerprint
    if config.solver == "svm":  # cross-validation takes its turns with all of them
        pairs.need_both("train")
    else:
        pairs = keep_validation(pairs, config.validation, generator_for("cpu", config.seed, "validation"))
    pairs.need_both("test")
    path = Path(out) if out is not None else fresh_folder("siamese")
    if earlier is None:
        check_new(RUN, path, overwrite=overwrite)
    model = build_pair_model(
        config, pairs, earlier.config["resolved"]["precision"] if earlier else None, listener=listener
    )
    pairs = pairs.to(model.device)
    fit_embedder(model, pairs, config, listener)
    recorder = _Recorder(listener)
    if config.solver == "svm":
        learner: Siamese | SolvedHead = SolvedHead(config, pairs, model, recorder)
    else:
        learner = Siamese(config, pairs, model, recorder)
    with run_held(path if earlier is None else earlier.path):
        if earlier is None:
            saved = _description(config, pairs, model, learner, given, data_options)
            run = create_run(path, saved, overwrite=overwrite)
        else:
            run = earlier
            run.check_unchanged()
        listener.started(run.config)
        loop = TrainingLoop(learner, run, Processes(), checkpoint_every=checkpoint_every, listener=listener)
        if earlier is not None:
            loop.resume()
        with recorder.into(run):
            if not loop.go():
                raise TrainingStopped(run, loop.iteration)
        learner.finish()
        return _finished(run, pairs, model, learner, config, listener)


def _completed(config: SiameseOptions) -> SiameseOptions:
    """Decide what was left to the method: faces may be mirrored, and a solved head leaves the embedder alone."""
    frozen = config.freeze or config.solver == "svm"
    return replace(config, flip=True if config.flip is None else config.flip, freeze=frozen)


def _saved_config(run: Run, pairs: PairSet, options: dict[str, Any]) -> SiameseOptions:
    saved = run.options_to_resume("siamese", options)
    if run.config["data"]["fingerprint"] != pairs.fingerprint:
        raise MetaSiamError(f"{run.path} was trained on other pairs than {pairs.source} holds now. Restore them.")
    return options_of(SiameseOptions, saved)


def fit_embedder(model: PairModel, pairs: PairSet, config: SiameseOptions, listener: Listener) -> None:
    """Let an embedder that is made of statistics learn them, from the training pairs' images without any labels."""
    fit = getattr(model.embedder, "fit", None)
    if fit is None or config.init is not None:
        return
    rows = pairs.rows("train")
    used = torch.unique(torch.cat((pairs.first[rows], pairs.second[rows])))
    listener.progress(f"fitting {config.arch}", 0, 1)

    def images(index: torch.Tensor) -> torch.Tensor:
        return normalise(pairs.images[used[index.to(used.device)]], model.info.mean, model.info.std)

    fit(images, len(used), generator_for("cpu", config.seed, "fit"))
    listener.progress(f"fitting {config.arch}", 1, 1)


def _description(
    config: SiameseOptions,
    pairs: PairSet,
    model: PairModel,
    learner: Siamese | SolvedHead,
    fingerprint: str,
    data_options: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return what ``config.json`` says."""
    return {
        "schema": 1,
        "options": config.as_dict(),
        "resolved": {"precision": "bf16" if model.precision == torch.bfloat16 else "fp32", "compiled": False},
        "total_iterations": learner.total,
        "images_per_iteration": learner.images_per_iteration,
        "parameters": sum(p.numel() for part in (model.embedder, model.head) for p in part.parameters()),
        "data": {
            "source": pairs.source,
            "options": data_options or dict(pairs.recipe or {}),
            "fingerprint": fingerprint,
            "images": len(pairs.images),
            "channels": pairs.channels,
            "image_size": list(pairs.image_size),
            "preparation": None if pairs.preparation is None else pairs.preparation.as_dict(),
        },
        "pairs": {part: pairs.counts(part) for part in ("train", "validation", "test")},
        "machine": describe_machine(model.device),
        "processes": 1,
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _finished(
    run: Run,
    pairs: PairSet,
    model: PairModel,
    learner: Siamese | SolvedHead,
    config: SiameseOptions,
    listener: Listener,
) -> PairTraining:
    """Answer the test pairs at the validation threshold, and write weights and numbers."""
    validation_scores, validation_same = learner.validation_scores()
    rows = pairs.rows("test")
    used, place = torch.unique(torch.cat((pairs.first[rows], pairs.second[rows])), return_inverse=True)
    embeddings = model.embed(pairs.images[used], listener=listener)
    first, second = place.chunk(2)
    scores = model.compare(embeddings, first, second)
    result = judge(rows, scores, pairs.same[rows], validation_scores, validation_same)
    evaluation = as_evaluation(result, pairs, config.seed)
    info = replace(model.info, threshold=_embedding_threshold(pairs, model))
    save_embedder(run.path / EMBEDDER_FILE, model.embedder, info)
    kind = "contrastive" if config.loss == "contrastive" else config.head
    curve = result.curve
    head = TrainedHead(model.head, kind, result.threshold, curve.slope, curve.intercept, config.mirror)
    save_head(run.path / HEAD_FILE, head)
    run.write_json("evaluation.json", evaluation)
    return PairTraining(run, pairs, model, result, evaluation)


def _embedding_threshold(pairs: PairSet, model: PairModel) -> float:
    """Return the best threshold of the embeddings' own similarity, without the head, on validation pairs.

    A solved head's embedder has learned nothing from any answer, so the training pairs serve where there are no others.
    """
    rows = pairs.rows("validation")
    rows = rows if len(rows) else pairs.rows("train")
    used, place = torch.unique(torch.cat((pairs.first[rows], pairs.second[rows])), return_inverse=True)
    embeddings = model.embed(pairs.images[used])
    first, second = place.chunk(2)
    return best_threshold(similarity(embeddings, first, second, model.info.distance), pairs.same[rows])[0]


def cross_validated(pairs: PairSet, config: SiameseOptions) -> dict[str, Any]:
    """Train once without a run folder and say how validation pairs are answered; test pairs are not looked at.

    Args:
        pairs: with a training part; a validation part is taken from it as ``train_pairs`` does.
        config: the method's options.

    Returns:
        ``accuracy`` at the best threshold and ``auc``, fractions, on validation pairs; ``epochs`` trained; ``seconds``.
    """
    started = time.monotonic()
    config = _completed(config)
    if config.solver != "svm":
        pairs = keep_validation(pairs, config.validation, generator_for("cpu", config.seed, "validation"))
    pairs.need_both("train")
    model = build_pair_model(config, pairs)
    pairs = pairs.to(model.device)
    fit_embedder(model, pairs, config, SILENT)
    learner = SolvedHead(config, pairs, model) if config.solver == "svm" else Siamese(config, pairs, model)
    iteration = 0
    while iteration < learner.total:  # early stopping lowers it
        loss = float(learner.iterate(iteration, lambda: False))
        iteration += 1
        if not math.isfinite(loss):  # a trial that diverges is a bad one, and no reason to stop the search
            return {"accuracy": 0.5, "auc": 0.5, "epochs": None, "seconds": time.monotonic() - started}
    learner.finish()
    scores, same = learner.validation_scores()
    _, accuracy = best_threshold(scores, same)
    epochs = iteration // learner.batches if isinstance(learner, Siamese) else None
    return {
        "accuracy": accuracy,
        "auc": roc_auc(scores, same),
        "epochs": epochs,
        "seconds": round(time.monotonic() - started, 1),
    }


class _Recorder(Relay):
    """Writes a learner's measurements into the run's metrics and TensorBoard files, too."""

    def __init__(self, to: Listener) -> None:
        super().__init__(to)
        self._run: Run | None = None
        self._writer: Any = None

    def into(self, run: Run) -> _Recorder:
        self._run = run
        return self

    def __enter__(self) -> _Recorder:
        from torch.utils.tensorboard import SummaryWriter

        assert self._run is not None
        self._writer = SummaryWriter(str(self._run.path / "tensorboard"), filename_suffix=".validation")
        return self

    def __exit__(self, *exception: object) -> None:
        self._writer.close()

    def measured(self, row: dict[str, Any]) -> None:
        super().measured(row)
        assert self._run is not None
        self._run.append_metrics(row)
        for name, value in row.items():
            part, _, what = name.partition("_")
            if part in ("train", "validation"):
                self._writer.add_scalar(f"{part}/epoch_{what}", value, row["step"])
