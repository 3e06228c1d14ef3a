"""Crops, changes of colour, erased rectangles and one's own augmentation."""

import pytest
import torch

import metasiam as ms
from metasiam.data import photographs
from metasiam.data.augment import Augmentation, normalise

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def images(count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, 8, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def drawn(augmentation: Augmentation, count: int) -> torch.Tensor:
    return augmentation.draw((count,), torch.Generator().manual_seed(0))


def test_drawn_crops_keep_the_area_they_should_and_lie_within_the_image():
    boxes = photographs.draw((4000,), 0.3, 0.4, 0.5, torch.Generator().manual_seed(0))
    top, left, height, width = boxes[:, :4].unbind(1)
    assert float((top + height).max()) <= 1 + 1e-6
    assert float((left + width).max()) <= 1 + 1e-6
    assert 0.2 < float((height * width).min()) < 0.35  # an edge may cut what is long
    assert float((height * width).max()) > 0.9
    factors = boxes[:, 4:7]
    assert (0.6 <= float(factors.min()) < 0.62, 1.38 < float(factors.max()) <= 1.4) == (True, True)
    erased = (boxes[:, 9] > 0).float().mean()
    assert 0.46 < float(erased) < 0.54


def test_without_any_change_an_image_stays_itself():
    pixels = images().float()
    parameters = photographs.draw((6,), 0, 0, 0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(photographs.apply(pixels, parameters, MEAN), pixels, rtol=0, atol=1e-3)


def test_a_crop_is_the_enlarged_part():
    pixels = images(1).float()
    parameters = photographs.draw((1,), 0, 0, 0, torch.Generator().manual_seed(0))
    parameters[0, :4] = torch.tensor([0.5, 0.0, 0.5, 0.5])  # the lower left quarter
    wanted = torch.nn.functional.interpolate(pixels[:, :, 4:, :5], size=(8, 10), mode="bilinear", align_corners=False)
    found = photographs.apply(pixels, parameters, MEAN)
    # At the cut, the whole image has neighbours that its part alone has not.
    torch.testing.assert_close(found[:, :, 1:-1, 1:-1], wanted[:, :, 1:-1, 1:-1], rtol=0, atol=1e-3)


def test_erased_places_are_the_mean_and_the_rest_stays():
    augmentation = Augmentation(flip=False, erase=1.0)
    batch = images()
    found = augmentation.apply(batch, drawn(augmentation, 6), MEAN, STD)
    plain = normalise(batch, MEAN, STD)
    erased = (found.abs() < 1e-5).all(1)
    assert bool(erased.any((1, 2)).all())
    assert not bool(erased.all())
    same = ((found - plain).abs() < 1e-3).all(1)
    assert bool((same | erased).all())


def test_brightness_contrast_and_saturation_are_what_they_are_called():
    pixels = images(1).float() / 4 + 60
    plain = photographs.draw((1,), 0, 0, 0, torch.Generator().manual_seed(0))
    for column, wanted in (
        (4, pixels * 0.5),
        (5, pixels.mean() + (pixels - pixels.mean()) * 0.5),
        (6, pixels.mean(1, keepdim=True) + (pixels - pixels.mean(1, keepdim=True)) * 0.5),
    ):
        parameters = plain.clone()
        parameters[0, column] = 0.5
        torch.testing.assert_close(photographs.apply(pixels, parameters, MEAN), wanted, rtol=0, atol=1e-3)


SMALL = {"batch_size": 4, "device": "cpu", "precision": "fp32", "compile": "off", "arch": "resnet8"}


@pytest.fixture
def data(tiny_domains):
    domains = tiny_domains(domains=8, images=12, size=8)
    return domains, ms.split_domains(domains, held_out=3, validation=2)


def weights_of(run):
    return torch.cat([value.flatten().float() for value in ms.load_embedder(run.path)[0].state_dict().values()])


EPISODES = {"iterations": 2, "ways": 2, "shots": 2}


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("triplet", {"iterations": 3}),
        ("reptile", {"iterations": 2, "inner_epochs": 2}),
        ("fomaml", {"iterations": 2, "ways": 2, "shots": 2}),
    ],
)
def test_every_method_uses_them(data, tmp_path, method, more):
    usual = {"random_crop": 0.5, "jitter": 0.4, "erase": 0.5}
    plain = ms.train(method, *data, out=tmp_path / "plain", **SMALL, **more)
    one = ms.train(method, *data, out=tmp_path / "one", **SMALL, **more, **usual)
    other = ms.train(method, *data, out=tmp_path / "other", **SMALL, **more, **usual)
    assert torch.equal(weights_of(one), weights_of(other))
    assert not torch.equal(weights_of(one), weights_of(plain))


def test_ones_own_augmentation_gets_uint8_batches_and_its_name_is_kept(data, tmp_path):
    seen = []

    def darken(batch):
        seen.append((batch.dtype, tuple(batch.shape)))
        return (batch * torch.rand(len(batch), 1, 1, 1)).to(torch.uint8)

    one = ms.train("triplet", *data, out=tmp_path / "one", iterations=2, augment=darken, **SMALL)
    other = ms.train("triplet", *data, out=tmp_path / "other", iterations=2, augment=darken, **SMALL)
    assert seen[0] == (torch.uint8, (12, 3, 8, 8))
    assert one.config["options"]["augment"] == "own:darken"
    assert torch.equal(weights_of(one), weights_of(other))
    with pytest.raises(ms.MetaSiamError, match="darken is a custom augmentation"):
        ms.train("triplet", *data, resume=one.path)
    with pytest.raises(ms.MetaSiamError, match=r"must return uint8 \[12, 3, 8, 8\], as it got, not torch.float32"):
        ms.train("triplet", *data, out=tmp_path / "bad", iterations=1, augment=lambda batch: batch.float(), **SMALL)
