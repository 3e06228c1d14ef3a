"""Better inference: what each step does to an embedding, by loops; the head on the support; refusals."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metasiam import MetaSiamError, split_domains
from metasiam.data.tasks import Episodes
from metasiam.evaluation.embedding import embed_batch, embed_images
from metasiam.evaluation.episodes import episode_accuracy
from metasiam.evaluation.inference import InferenceEmbedder, whitening, wrap
from metasiam.evaluation.logistic import logistic_accuracy
from metasiam.evaluation.protocol import evaluate
from metasiam.models.files import EmbedderInfo
from metasiam.options.evaluation import ProtocolSettings

INFO = EmbedderInfo(arch="pixels", channels=3, image_size=(8, 8), mean=(0.4,) * 3, std=(0.2,) * 3, distance="cosine")
QUICK = {"shots": (0,), "pairs": 40, "triplets": 40, "episodes": 20, "queries": 2, "support_draws": 5, "bootstrap": 100}


class Pixels(nn.Module):
    """Eight numbers of an image, not symmetric under mirroring."""

    embedding_size = 8

    def __init__(self) -> None:
        super().__init__()
        weight = torch.randn(8, 3 * 64, generator=torch.Generator().manual_seed(0))
        self.linear = nn.Parameter(weight / 14)

    def forward(self, images):
        return images.flatten(1) @ self.linear.t()


@pytest.fixture
def data(tiny_domains):
    domains = tiny_domains(domains=10, images=12)
    return domains, split_domains(domains, held_out=5)


def unit(rows):
    return F.normalize(rows, dim=-1)


def wrapped(data, *steps, info=INFO):
    domains, split = data
    return wrap(Pixels(), info, domains, domains.pool(split.seen, "train").images, steps)


def test_no_step_leaves_the_embedder_as_it_is(data):
    embedder = Pixels()
    domains, split = data
    assert wrap(embedder, INFO, domains, domains.pool(split.seen, "train").images, ())[0] is embedder


@torch.no_grad()
def test_views_are_the_mirrored_and_the_moved_image():
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    plain = Pixels()
    embedder = InferenceEmbedder(plain, "cosine", ("mirror", "shifts"))
    views = []
    for down, right in ((0, 0), (-2, 0), (2, 0), (0, -2), (0, 2)):
        moved = torch.empty_like(images)
        for y in range(8):
            for x in range(8):
                moved[..., y, x] = images[..., min(max(y + down, 0), 7), min(max(x + right, 0), 7)]
        views += [unit(plain(moved)), unit(plain(moved.flip(-1)))]
    torch.testing.assert_close(embedder(images), unit(torch.stack(views).mean(0)))


def test_a_mirrored_embedding_keeps_its_scale_where_distances_are_compared():
    """A threshold of single embeddings holds for averaged ones: they are means, not sums."""
    info = replace(INFO, distance="squared_euclidean")
    half = torch.randint(0, 256, (3, 3, 8, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    symmetric = torch.cat((half, half.flip(-1)), dim=3)
    plain, mirrored = (embed_batch(Pixels(), info, symmetric, mirror=mirror) for mirror in (False, True))
    torch.testing.assert_close(mirrored, plain)


def test_gradient_steps_see_one_view():
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(InferenceEmbedder(Pixels(), "cosine", ("mirror",))(images), unit(Pixels()(images)))


@torch.no_grad()
def test_tukey_takes_roots_and_keeps_signs():
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    rows = unit(Pixels()(images))
    expected = unit(torch.where(rows < 0, -(-rows).abs().sqrt(), rows.abs().sqrt()))
    torch.testing.assert_close(
        InferenceEmbedder(Pixels(), "cosine", ("tukey",))(images), expected, rtol=1e-3, atol=1e-3
    )


def test_centring_takes_the_seen_training_images_mean_away(data):
    embedder, info = wrapped(data, "centre")
    domains, split = data
    seen = domains.pool(split.seen, "train").images
    with torch.no_grad():
        plain = embed_images(Pixels(), INFO, domains, seen)
        torch.testing.assert_close(embedder.mean, plain.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        embed_images(embedder, info, domains, seen), unit(plain - plain.mean(0)), rtol=1e-3, atol=1e-4
    )


def test_whitening_evens_out_the_spread_within_domains():
    generator = torch.Generator().manual_seed(2)
    centres = torch.randn(6, 3, generator=generator).double()
    labels = torch.arange(6).repeat_interleave(200)
    noise = torch.randn(1200, 3, generator=generator).double() * torch.tensor([3.0, 1.0, 0.1]).double()
    rows = centres[labels] + noise
    weight = whitening(rows, labels)
    covariance = sum(
        (rows[labels == d] - rows[labels == d].mean(0)).t() @ (rows[labels == d] - rows[labels == d].mean(0))
        for d in range(6)
    ) / len(rows)
    ridge = covariance.diagonal().mean() * torch.eye(3).double()
    product = weight @ (covariance + ridge) @ weight.t()
    torch.testing.assert_close(product, product[0, 0] * torch.eye(3).double(), rtol=1e-6, atol=1e-8)
    spread = (noise @ weight.t()).std(0)
    assert float(spread.max() / spread.min()) < 0.6 * 30  # it was 30 to 1
    assert float(torch.linalg.eigvalsh(weight).mean()) == pytest.approx(1)


def test_normalising_compares_by_cosine_what_was_trained_for_distances(data):
    euclidean = EmbedderInfo(
        arch="pixels", channels=3, image_size=(8, 8), mean=(0.4,) * 3, std=(0.2,) * 3, distance="squared_euclidean"
    )
    assert wrapped(data, "centre", info=euclidean)[1].distance == "squared_euclidean"
    assert wrapped(data, "centre", "normalise", info=euclidean)[1].distance == "cosine"


def test_logistic_regression_tells_two_clouds_apart_that_centroids_do_not(data):
    # The queries differ from the supports along an axis on which the supports vary most.
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(40, 2, generator=generator) * torch.tensor([5.0, 0.1])
    rows[:20, 1] += 1
    episodes = Episodes(
        support=torch.stack((torch.arange(5), torch.arange(20, 25)))[None],
        query=torch.stack((torch.arange(5, 20), torch.arange(25, 40)))[None],
        domains=torch.tensor([[0, 1]]),
    )
    assert float(logistic_accuracy(rows, episodes, "squared_euclidean", penalty=100.0).mean()) > 0.9
    assert float(episode_accuracy(rows, episodes, "squared_euclidean").mean()) < 0.8


def test_an_evaluation_with_every_step_measures_pairs_and_episodes(data):
    settings = ProtocolSettings(inference=("mirror", "tukey", "centre", "lda", "logistic"), **QUICK)
    plain = evaluate(Pixels(), INFO, *data, ProtocolSettings(**QUICK)).data["held_out"]
    found = evaluate(Pixels(), INFO, *data, settings).data
    assert found["protocol"]["inference"] == ["mirror", "tukey", "centre", "lda", "logistic"]
    assert "5-way 1-shot logistic" in found["held_out"]["episodes"]
    assert found["held_out"]["closed"]["0"]["auc"] != plain["closed"]["0"]["auc"]
    assert found["held_out"]["episodes"]["5-way 1-shot"] != plain["episodes"]["5-way 1-shot"]


def test_episode_kinds_are_an_option(data):
    found = evaluate(Pixels(), INFO, *data, ProtocolSettings(episode_kinds=((3, 2), (9, 1)), **QUICK)).data
    names = set(found["held_out"]["episodes"])
    assert "3-way 2-shot" in names
    assert not names & {"9-way 1-shot", "5-way 1-shot"}  # five held-out domains have no nine ways


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"inference": ("lda", "pca")}, "--inference pca is unknown"),
        ({"inference": ("lda",), "mirror": True}, "--inference mirror,…"),
        ({"episode_kinds": ((1, 1),)}, "at least 2 ways"),
    ],
)
def test_bad_settings_are_said_in_one_line(options, text):
    with pytest.raises(MetaSiamError, match=text):
        ProtocolSettings(**options)


@pytest.mark.parametrize("steps", [("mirror",), ("tukey", "centre", "lda")])
def test_an_embedder_is_in_the_mode_it_was_in_afterwards(data, steps):
    class Normed(Pixels):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(8)

        def forward(self, images):
            return self.norm(super().forward(images))

    embedder = Normed().eval()
    embedder.norm.train()  # a mode of its own, which is nobody's business
    evaluate(embedder, INFO, *data, ProtocolSettings(**QUICK, inference=steps))
    assert [module.training for module in embedder.modules()] == [False, True]
