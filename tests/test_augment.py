"""Augmentation equals what naive loops over images and pixels do."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from metasiam.data.augment import Augmentation, normalise

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 6, height: int = 7, width: int = 9) -> Tensor:
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator(9))


def naive_normalise(image: Tensor) -> Tensor:
    return torch.stack([(image[c].double() / 255 - MEAN[c]) / STD[c] for c in range(3)])


def naive_move(image: Tensor, mirrored: bool, down: int, right: int, reflect: bool) -> Tensor:
    _, height, width = image.shape
    result = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            row, column = y + down, x + right
            if reflect:
                row = -row if row < 0 else 2 * (height - 1) - row if row >= height else row
                column = -column if column < 0 else 2 * (width - 1) - column if column >= width else column
            if 0 <= row < height and 0 <= column < width:
                result[:, y, x] = image[:, row, width - 1 - column if mirrored else column]
    return result


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(flip=False),
        Augmentation(),
        Augmentation(flip=False, shift=2),
        Augmentation(shift=3),
        Augmentation(shift=3, reflect=True),
    ],
    ids=["nothing", "flip", "shift", "flip and shift", "reflected"],
)
def test_mirroring_and_shifting_equal_a_loop_over_pixels(augmentation: Augmentation) -> None:
    images = pictures(20)
    parameters = augmentation.draw((20,), generator())
    result = augmentation.apply(images, parameters, MEAN, STD)
    for image, drawn, got in zip(images, parameters, result, strict=True):
        mirrored, down, right = (int(value) for value in drawn)
        expected = naive_normalise(naive_move(image, bool(mirrored), down, right, augmentation.reflect))
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=1e-5)


def test_each_image_is_mirrored_afresh_and_about_half_of_them() -> None:
    drawn = Augmentation().draw((3, 4000), generator())[..., 0]
    assert not torch.equal(drawn[0], drawn[1])
    assert abs(float(drawn.mean()) - 0.5) < 0.02


def test_every_shift_is_equally_likely() -> None:
    drawn = Augmentation(flip=False, shift=2).draw((20000,), generator())[:, 1:3]
    for axis in range(2):
        share = torch.bincount((drawn[:, axis] + 2).long(), minlength=5) / 20000
        assert share.tolist() == pytest.approx([0.2] * 5, abs=0.015)


def test_draws_depend_on_the_seed_alone() -> None:
    augmentation = Augmentation(shift=2, rotation=10)
    assert torch.equal(augmentation.draw((2, 5), generator(3)), augmentation.draw((2, 5), generator(3)))
    assert not torch.equal(augmentation.draw((2, 5), generator(3)), augmentation.draw((2, 5), generator(4)))
    assert augmentation.draw((2, 5), generator()).shape == (2, 5, augmentation.width)


def naive_affine(image: Tensor, matrix: Tensor) -> Tensor:
    """Sample bilinearly at matrix @ (place - centre) + move + centre; outside is zero."""
    channels, height, width = image.shape
    result = torch.zeros(channels, height, width, dtype=torch.float64)
    for y in range(height):
        for x in range(width):
            dx, dy = x - (width - 1) / 2, y - (height - 1) / 2
            column = float(matrix[0, 0] * dx + matrix[0, 1] * dy + matrix[0, 2]) + (width - 1) / 2
            row = float(matrix[1, 0] * dx + matrix[1, 1] * dy + matrix[1, 2]) + (height - 1) / 2
            left, top = math.floor(column), math.floor(row)
            for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                if 0 <= r < height and 0 <= c < width:
                    weight = (1 - abs(row - r)) * (1 - abs(column - c))
                    result[:, y, x] += weight * image[:, r, c].double()
    return result


def test_affine_distortion_equals_a_loop_over_pixels_on_images_that_are_not_square() -> None:
    augmentation = Augmentation(flip=False, rotation=30, shear=0.3, scale=0.3, translation=2)
    images = pictures(8)
    parameters = augmentation.draw((8,), generator())
    result = augmentation.apply(images, parameters, MEAN, STD)
    for image, drawn, got in zip(images, parameters, result, strict=True):
        expected = naive_normalise(naive_affine(image, drawn[3:].view(2, 3).double()))
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-3)


def test_each_affine_distortion_happens_to_about_half_of_the_images() -> None:
    identity = torch.tensor([1.0, 0, 0, 0, 1, 0])
    for options in ({"rotation": 10.0}, {"shear": 0.3}, {"scale": 0.2}, {"translation": 2.0}):
        matrix = Augmentation(flip=False, **options).draw((4000,), generator())[:, 3:]
        share = float((matrix != identity).any(1).float().mean())
        assert share == pytest.approx(0.5, abs=0.03), options


def test_the_result_is_channels_last_and_of_the_type_asked_for() -> None:
    augmentation = Augmentation(shift=1)
    result = augmentation.apply(pictures(), augmentation.draw((6,), generator()), MEAN, STD, torch.bfloat16)
    assert result.dtype == torch.bfloat16
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_normalise_equals_the_formula_also_for_one_channel() -> None:
    images = pictures()
    result = normalise(images, MEAN, STD)
    for image, got in zip(images, result, strict=True):
        torch.testing.assert_close(got.double(), naive_normalise(image), rtol=0, atol=1e-5)
    grey = normalise(images[:, :1], MEAN[:1], STD[:1])
    torch.testing.assert_close(grey, result[:, :1])


@pytest.mark.parametrize("options", [{"shift": -1}, {"scale": 1.0}, {"rotation": -5.0}])
def test_impossible_strengths_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="strengths"):
        Augmentation(**options)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_applying_can_be_captured_in_a_cuda_graph() -> None:
    augmentation = Augmentation(shift=2, rotation=10)
    images, parameters = pictures().cuda(), augmentation.draw((6,), generator()).cuda()
    expected = augmentation.apply(images, parameters, MEAN, STD)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = augmentation.apply(images, parameters, MEAN, STD)
    graph.replay()
    torch.testing.assert_close(result, expected)
