"""Classic triplet training: anchors cover every epoch, steps equal torch's own, schedules do what they say."""

import pytest
import torch

from metasiam import split_domains
from metasiam.learners.context import prepare
from metasiam.learners.triplet import Triplet
from metasiam.losses import triplet_cosine
from metasiam.options.triplet import TripletOptions
from metasiam.training.distributed import Processes


def never() -> bool:
    return False


@pytest.fixture
def learner(tiny_domains):
    def make(processes: Processes | None = None, **options: object) -> Triplet:
        domains = tiny_domains(domains=6, images=10)
        settings = {
            "arch": "resnet8",
            "batch_size": 8,
            "iterations": 20,
            "flip": False,
            "device": "cpu",
            "precision": "fp32",
            "compile": "off",
            **options,
        }
        config = TripletOptions(**settings)  # type: ignore[arg-type]
        context = prepare(config, domains, split_domains(domains, held_out=2))
        return Triplet(config, context, processes or Processes())

    return make


def test_every_seen_training_image_is_an_anchor_once_an_epoch_in_a_fresh_order(learner):
    triplet = learner(iterations=12)  # 24 seen training images: 3 batches of 8 an epoch
    drawn = [triplet.draw_batch(i, triplet.context.generator("x", i))[0] for i in range(12)]
    epochs = torch.cat(drawn).view(4, 24)
    pool = set(triplet.context.seen.images.tolist())
    assert all(set(epoch.tolist()) == pool for epoch in epochs)
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 4


def test_batches_that_straddle_epochs_lose_no_image(learner):
    triplet = learner(batch_size=7, iterations=24)
    anchors = torch.cat([triplet.draw_batch(i, triplet.context.generator("x", i))[0] for i in range(24)])
    counts = torch.bincount(anchors)[triplet.context.seen.images]
    assert int(counts.min()) == int(counts.max()) == 7


def test_processes_share_an_epoch_without_overlap(learner):
    parts = []
    for rank in range(2):
        triplet = learner(Processes(rank, 1), batch_size=6)
        triplet._global_batch, triplet.processes = 12, Processes(rank, 2)
        parts += [triplet.draw_batch(i, triplet.context.generator("x", i))[0] for i in range(2)]
    assert len(torch.unique(torch.cat(parts))) == 24


def test_positives_share_the_anchors_domain_and_negatives_never_do(learner):
    triplet = learner()
    labels = triplet.context.domains.labels
    for iteration in range(10):
        anchor, positive, negative = triplet.draw_batch(iteration, triplet.context.generator("x", iteration))
        assert torch.equal(labels[anchor], labels[positive])
        assert not (anchor == positive).any()
        assert not (labels[anchor] == labels[negative]).any()


def test_a_step_equals_torch_adam_on_three_separate_forward_passes_of_one_batch(learner):
    """BatchNorm sees the stacked batch, so the naive pass normalises over the same 3B images."""
    import copy

    from metasiam.data.augment import normalise

    triplet = learner(lr=0.01)
    context = triplet.context
    naive = copy.deepcopy(context.embedder)
    optimizer = torch.optim.Adam(naive.parameters(), lr=0.01)
    index = triplet.draw_batch(0, context.generator("step", 0))
    images = normalise(context.domains.gather(index.flatten()), context.info.mean, context.info.std)
    loss = triplet_cosine(*naive(images).chunk(3), margin=0.3)
    loss.backward()
    optimizer.step()
    assert float(triplet.iterate(0, never)) == pytest.approx(float(loss.detach()), rel=1e-4)
    for ours, theirs in zip(context.embedder.parameters(), naive.parameters(), strict=True):
        # Adam's first step is lr · sign(gradient): entries with a gradient near 0 may differ in sign.
        close = torch.isclose(ours, theirs, atol=2e-4)
        assert float(close.float().mean()) > 0.98


@pytest.mark.parametrize(
    ("schedule", "start", "middle", "end"),
    [
        ("constant", 1.0, 1.0, 1.0),
        ("linear", 1.0, 0.5, 0.05),
        ("cosine", 1.0, 0.5, 0.0062),
        ("onecycle", 0.25, 0.625, 0.0625),
    ],
)
def test_the_learning_rate_follows_its_schedule(learner, schedule, start, middle, end):
    triplet = learner(schedule=schedule, lr=1.0, iterations=20)
    assert [triplet.rate(0), triplet.rate(10), triplet.rate(19)] == pytest.approx([start, middle, end], abs=1e-3)
    triplet.iterate(5, never)
    assert triplet.optimizer.param_groups[0]["lr"] == pytest.approx(triplet.rate(5))


def test_epochs_count_passes_over_the_seen_images(learner):
    assert learner(iterations=None, epochs=5).total == 15
    assert learner(iterations=None, epochs=1, batch_size=16).total == 2


@pytest.mark.parametrize("loss", ["cosine", "euclidean", "softmax", "mined-hard"])
def test_training_lowers_the_loss(learner, loss):
    triplet = learner(loss=loss, lr=0.01, iterations=40, batch_size=24)
    losses = [float(triplet.iterate(i, never)) for i in range(40)]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
