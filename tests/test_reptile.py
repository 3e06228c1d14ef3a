"""Reptile: one iteration by hand, the inventors' variants, and what each option changes."""

import math

import pytest
import torch
from torch import nn

from metasiam import MetaSiamError, split_domains
from metasiam.data.augment import Augmentation, normalise
from metasiam.data.domains import DomainSet
from metasiam.learners.context import TrainingContext, prepare
from metasiam.learners.reptile import Reptile
from metasiam.losses import triplet_cosine
from metasiam.options.reptile import ReptileOptions
from metasiam.training.distributed import Processes
from metasiam.training.learner import StopRequested


class LinearNet(nn.Module):
    """The smallest embedder: one matrix."""

    embedding_size = 4

    def __init__(self, size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * size * size, 4, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.flatten(1))


def never() -> bool:
    return False


@pytest.fixture
def learner(tiny_domains):
    """Function that makes a Reptile learner on tiny data, around a linear net or a named embedder."""

    def make(domains: DomainSet | None = None, linear: bool = True, **options: object) -> Reptile:
        domains = domains or tiny_domains(domains=6, images=10)
        settings = {
            "arch": "resnet8",
            "batch_size": 5,
            "iterations": 10,
            "inner_epochs": 3,
            "flip": False,
            "device": "cpu",
            "precision": "fp32",
            "compile": "off",
            **options,
        }
        config = ReptileOptions(**settings)  # type: ignore[arg-type]
        context: TrainingContext = prepare(config, domains, split_domains(domains, held_out=2))
        if linear:
            torch.manual_seed(7)
            context.embedder = LinearNet(domains.image_size[0])
        return Reptile(config, context, Processes())

    return make


def weight(reptile: Reptile) -> torch.Tensor:
    return reptile.context.embedder.linear.weight.detach().clone()


def gradient(reptile: Reptile, w: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """The triplet loss's gradient by autograd on a bare matrix, apart from the learner's own code."""
    context = reptile.context
    w = w.clone().requires_grad_()
    rows = [normalise(context.domains.gather(i), context.info.mean, context.info.std).flatten(1) @ w.t() for i in index]
    return torch.autograd.grad(triplet_cosine(*rows, margin=0.3), w)[0]


def test_one_iteration_equals_the_inner_steps_and_the_interpolation_done_by_hand(learner):
    reptile = learner(inner_optimizer="sgd", lr=0.1, meta_step=0.25, meta_schedule="constant", inner_epochs=3)
    start = weight(reptile)
    index = reptile.draw_task(reptile.context.generator("task", 0, 0))
    fast = start.clone()
    for epoch in range(3):
        fast = fast - 0.1 * gradient(reptile, fast, index[epoch])
    expected = start + 0.25 * (fast - start)
    reptile.iterate(0, never)
    torch.testing.assert_close(weight(reptile), expected, rtol=1e-5, atol=1e-7)
    assert not torch.allclose(expected, start)


def test_one_inner_epoch_of_sgd_with_meta_step_one_is_one_plain_sgd_step(learner):
    reptile = learner(inner_optimizer="sgd", lr=0.1, meta_step=1.0, meta_schedule="constant", inner_epochs=1)
    start = weight(reptile)
    index = reptile.draw_task(reptile.context.generator("task", 0, 0))
    reptile.iterate(0, never)
    expected = start - 0.1 * gradient(reptile, start, index[0])
    torch.testing.assert_close(weight(reptile), expected, rtol=1e-5, atol=1e-7)


def test_the_inner_rate_follows_its_schedule_over_the_whole_run_and_weights_decay_with_it(learner):
    options = {"inner_optimizer": "sgd", "lr": 0.1, "meta_step": 1.0, "meta_schedule": "constant", "inner_epochs": 2}
    reptile = learner(iterations=2, schedule="linear", weight_decay=0.5, **options)
    expected = weight(reptile)
    rates = iter((0.1, 0.075, 0.05, 0.025))  # four inner epochs in all
    for iteration in range(2):
        index = reptile.draw_task(reptile.context.generator("task", iteration, 0))
        for epoch in range(2):
            slope = gradient(reptile, expected, index[epoch]) + 0.5 * expected
            expected = expected - next(rates) * slope
        reptile.iterate(iteration, never)
    torch.testing.assert_close(weight(reptile), expected, rtol=1e-5, atol=1e-7)


def test_tasks_of_one_iteration_have_the_same_inner_rates(learner):
    reptile = learner(iterations=2, inner_epochs=3, meta_batch=2, schedule="linear", lr=0.6)
    assert [reptile.inner_rate(1, epoch) for epoch in range(3)] == pytest.approx([0.3, 0.2, 0.1])


def test_a_meta_batch_moves_by_the_mean_of_its_tasks_changes(learner):
    options = {"inner_optimizer": "sgd", "lr": 0.1, "meta_step": 0.5, "meta_schedule": "constant", "inner_epochs": 1}
    reptile = learner(meta_batch=3, **options)
    start = weight(reptile)
    changes = []
    for slot in range(3):
        index = reptile.draw_task(reptile.context.generator("task", 0, slot))
        changes.append(-0.1 * gradient(reptile, start, index[0]))
    reptile.iterate(0, never)
    torch.testing.assert_close(weight(reptile), start + 0.5 * sum(changes) / 3, rtol=1e-5, atol=1e-7)


def test_reset_adam_starts_every_task_anew_and_kept_adam_does_not(learner):
    results = {}
    for state in ("keep", "reset"):
        reptile = learner(optimizer_state=state, meta_step=0.5)
        for iteration in range(3):
            reptile.iterate(iteration, never)
        results[state] = weight(reptile)
        momenta = torch.cat([tensor.flatten().abs() for tensor in reptile.state()["slow"]["momenta"]])
        assert (float(momenta.sum()) > 0) == (state == "keep")
    assert not torch.equal(results["keep"], results["reset"])


def test_the_inventors_adam_without_momentum_makes_sign_like_first_steps(learner):
    reptile = learner(
        beta1=0.0, optimizer_state="reset", meta_step=1.0, meta_schedule="constant", inner_epochs=1, lr=0.01
    )
    start = weight(reptile)
    reptile.iterate(0, never)
    moved = (weight(reptile) - start).abs()
    assert float(moved[moved > 1e-6].median()) == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", [0.8, 0.4]), ("constant", [0.8, 0.8]), ("cosine", [0.8, 0.8 * (1 + math.cos(math.pi / 2)) / 2])],
)
def test_the_meta_step_follows_its_schedule(learner, schedule, expected):
    reptile = learner(meta_step=0.8, meta_schedule=schedule, iterations=10)
    assert [reptile.rate(0), reptile.rate(5)] == pytest.approx(expected)


def test_tasks_of_half_of_the_seen_domains_are_as_large_as_the_data_say(learner, tiny_domains):
    reptile = learner(tiny_domains(domains=9, images=10), ways=0, inner_epochs=30)  # seven are seen
    domains = reptile.context.domains
    anchors = domains.labels[reptile.draw_task(reptile.context.generator("task", 0, 0))[:, 0]]
    assert len(torch.unique(anchors)) == 3


def test_a_task_of_k_shots_sees_only_k_images_of_its_domains(learner):
    reptile = learner(task_shots=2, ways=1, inner_epochs=20)
    anchors, positives, _ = reptile.draw_task(reptile.context.generator("x")).unbind(1)
    assert len(torch.unique(torch.cat((anchors, positives)))) == 2
    several = learner(task_shots=3, ways=2, inner_epochs=20)
    anchors, positives, _ = several.draw_task(several.context.generator("x")).unbind(1)
    used = torch.unique(torch.cat((anchors, positives)))
    assert len(used) == 6
    assert len(torch.unique(several.context.domains.labels[used])) == 2


def test_no_task_ever_touches_held_out_domains_or_test_images(learner):
    reptile = learner(ways=3, inner_epochs=8)
    domains, split = reptile.context.domains, reptile.context.split
    index = torch.cat([reptile.draw_task(reptile.context.generator("task", i, 0)).flatten() for i in range(40)])
    assert set(domains.labels[index].tolist()) == set(split.seen)
    assert not domains.is_test[index].any()


@pytest.mark.parametrize("mode", ["interpolate", "task", "frozen"])
def test_batch_norm_statistics_go_as_they_are_told(learner, tiny_domains, mode):
    reptile = learner(tiny_domains(domains=6, images=10), linear=False, batch_norm=mode, meta_step=0.5)
    norm = reptile.context.embedder.bn1
    before = norm.running_mean.clone()
    reptile.iterate(0, never)
    assert torch.equal(before, norm.running_mean) == (mode != "interpolate")
    reptile.finish()
    assert torch.equal(before, norm.running_mean) == (mode == "frozen")
    assert not reptile.context.embedder.training


def test_nesterov_and_adam_on_the_pseudo_gradient_equal_torch_optim(learner):
    for name in ("nesterov", "adam"):
        reptile = learner(
            meta_optimizer=name, meta_step=0.1, meta_schedule="constant", inner_optimizer="sgd", lr=0.1, inner_epochs=2
        )
        plain = weight(reptile).requires_grad_()
        optimizer: torch.optim.Optimizer = (
            torch.optim.SGD([plain], lr=0.1, momentum=0.9, nesterov=True)
            if name == "nesterov"
            else torch.optim.Adam([plain], lr=0.1, betas=(0.9, 0.999))
        )
        for iteration in range(3):
            fast = plain.detach().clone()
            for index in reptile.draw_task(reptile.context.generator("task", iteration, 0)):
                fast = fast - 0.1 * gradient(reptile, fast, index)
            plain.grad = plain.detach() - fast
            optimizer.step()
            reptile.iterate(iteration, never)
        torch.testing.assert_close(weight(reptile), plain.detach(), rtol=1e-4, atol=1e-6)


def test_a_stop_in_the_middle_of_a_task_leaves_no_trace(learner):
    reptile = learner()
    reptile.iterate(0, never)
    before = reptile.state()
    asked = iter([False, False, True])
    with pytest.raises(StopRequested):
        reptile.iterate(1, lambda: next(asked))
    after = reptile.state()
    for name, tensors in before["slow"].items():
        assert all(torch.equal(a, b) for a, b in zip(tensors, after["slow"][name], strict=True))
    assert torch.equal(weight(reptile), before["slow"]["weights"][0])


def test_nor_in_the_counts_of_batches(learner):
    reptile = learner(linear=False)
    reptile.iterate(0, never)
    before = reptile.state()["counters"]
    asked = iter([False, True])
    with pytest.raises(StopRequested):
        reptile.iterate(1, lambda: next(asked))
    assert before
    assert all(torch.equal(a, b) for a, b in zip(before, reptile.state()["counters"], strict=True))


@pytest.mark.parametrize("loss", ["cosine", "euclidean", "contrastive", "softmax", "balanced-softmax", "supcon"])
def test_any_of_the_triplet_losses_works_inside(learner, loss):
    reptile = learner(loss=loss, meta_step=1.0, linear=False)
    start = reptile.context.embedder.conv1.weight.detach().clone()
    assert torch.isfinite(reptile.iterate(0, never))
    assert not torch.equal(start, reptile.context.embedder.conv1.weight)


def test_reptile_learns_to_tell_unseen_domains_apart_better_than_chance_start(learner, tiny_domains):
    domains = tiny_domains(domains=14, images=16)
    reptile = learner(
        domains, linear=False, iterations=12, inner_epochs=8, meta_step=1.0, ways=6, lr=0.003, batch_size=32, beta1=0.0
    )
    losses = [float(reptile.iterate(iteration, never)) for iteration in range(12)]
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ways": 5}, "--ways 5 needs as many seen domains"),
        ({"task_shots": 7}, "a seen domain has only 6 training images"),
        ({"task_shots": 1}, "--task-shots must be at least 2"),
        ({"iterations": 0}, "--iterations must be at least 1"),
        ({"meta_step": -1.0}, "--meta-step must be above 0"),
        ({"meta_schedule": "step"}, "--meta-schedule step is unknown. Use one of: linear, cosine, constant"),
        ({"lr": float("nan")}, "--lr must be a finite number"),
    ],
)
def test_values_that_cannot_work_are_named(learner, options, text):
    with pytest.raises(MetaSiamError, match=text.replace("(", r"\(")):
        learner(**options)


def test_augmentation_is_drawn_afresh_for_every_inner_epoch():
    parameters = Augmentation(flip=True).draw((30, 3, 16), torch.Generator().manual_seed(0))
    assert len({tuple(row.flatten().tolist()) for row in parameters}) == 30
