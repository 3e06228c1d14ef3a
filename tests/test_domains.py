"""Domain sets, pools and splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
import torch
from conftest import TinyDomains
from hypothesis import given, settings
from hypothesis import strategies as st

from metasiam.data import domains as domains_module
from metasiam.data.domains import DomainSet
from metasiam.data.splitting import Split, split_domains
from metasiam.errors import MetaSiamError

SPLITS = Path(domains_module.__file__).parent / "splits"


def random_set(
    generator: torch.Generator, domains: int, *, channels: int = 1, height: int = 2, width: int = 3
) -> DomainSet:
    """A domain set whose domains have between 2 and 9 images in mixed order, some of them test."""
    counts = torch.randint(2, 10, (domains,), generator=generator)
    labels = torch.repeat_interleave(torch.arange(domains), counts)
    labels = labels[torch.randperm(len(labels), generator=generator)]
    images = torch.randint(0, 256, (len(labels), channels, height, width), generator=generator).to(torch.uint8)
    is_test = torch.rand(len(labels), generator=generator) < 0.4
    return DomainSet(images, labels, tuple(f"d{i}" for i in range(domains)), is_test)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), domains=st.integers(2, 8), data=st.data())
def test_a_pool_holds_exactly_its_domains_images_of_one_part(seed: int, domains: int, data: st.DataObject) -> None:
    generator = torch.Generator().manual_seed(seed)
    whole = random_set(generator, domains)
    wanted = data.draw(st.lists(st.integers(0, domains - 1), min_size=1, unique=True))
    for part in ("train", "test"):
        expected = {
            d: ((whole.labels == d) & (whole.is_test == (part == "test"))).nonzero().flatten().tolist() for d in wanted
        }
        if not all(expected.values()):
            with pytest.raises(MetaSiamError, match=f"ha(s|ve) no {part} images"):
                whole.pool(wanted, part)
            continue
        pool = whole.pool(wanted, part)
        assert pool.domains.tolist() == sorted(wanted)
        for domain, start, count in zip(pool.domains, pool.starts, pool.counts, strict=True):
            assert pool.images[start : start + count].tolist() == expected[int(domain)]
        assert int(pool.counts.sum()) == len(pool.images)


def test_only_and_without_keep_the_blocks_of_the_domains_that_stay(tiny_domains: TinyDomains) -> None:
    whole = tiny_domains(5, 6, test_images=2)
    pool = whole.pool(range(5), "train")
    few = pool.only([3, 1])
    assert few.domains.tolist() == [1, 3]
    assert few.images.tolist() == [6, 7, 8, 9, 18, 19, 20, 21]
    assert few.starts.tolist() == [0, 4]
    rest = pool.without(3)
    assert rest.domains.tolist() == [0, 1, 2, 4]
    assert set(rest.images.tolist()) == set(pool.images.tolist()) - {18, 19, 20, 21}
    with pytest.raises(ValueError, match="not all in the pool"):
        few.only([2])
    with pytest.raises(ValueError, match="not all in the pool"):
        few.only([7])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), few=st.integers(1, 3), more=st.integers(0, 3))
def test_shots_are_distinct_images_of_their_domain_and_nested(seed: int, few: int, more: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(4).repeat_interleave(6)[torch.randperm(24, generator=generator)]
    pixels, is_test = torch.zeros(24, 1, 1, 1, dtype=torch.uint8), torch.zeros(24, dtype=torch.bool)
    whole = DomainSet(pixels, labels, tuple("abcd"), is_test)
    pool = whole.pool(range(4), "train")
    small, large = (pool.shots(count, torch.Generator().manual_seed(seed)) for count in (few, few + more))
    for shots, count in ((small, few), (large, few + more)):
        assert shots.counts.tolist() == [count] * 4
        assert len(set(shots.images.tolist())) == 4 * count
        assert torch.equal(labels[shots.images], shots.domains.repeat_interleave(count))
    assert set(small.images.tolist()) <= set(large.images.tolist())


def test_every_image_is_equally_likely_to_be_a_shot(tiny_domains: TinyDomains) -> None:
    pool = tiny_domains(3, 5, test_images=0).pool(range(3), "train")
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([pool.shots(2, generator).images for _ in range(2000)])
    share = torch.bincount(drawn, minlength=15) / 2000
    assert share.tolist() == pytest.approx([0.4] * 15, abs=0.05)


def test_more_shots_than_images_are_refused(tiny_domains: TinyDomains) -> None:
    with pytest.raises(ValueError, match="has only 8 images, 9"):
        tiny_domains().pool([0, 1], "train").shots(9, torch.Generator())


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 8, 8), (1, 2, 4), (1, 3, 5), (3, 7, 3)])
def test_gather_equals_advanced_indexing(channels: int, height: int, width: int) -> None:
    """Rows of a multiple of eight bytes are gathered as int64, others as bytes."""
    generator = torch.Generator().manual_seed(1)
    whole = random_set(generator, 6, channels=channels, height=height, width=width)
    index = torch.randint(len(whole.labels), (3, 5), generator=generator)
    expected = whole.images[index]
    assert torch.equal(whole.gather(index), expected)
    buffer = torch.zeros_like(expected)
    assert whole.gather(index, out=buffer) is buffer
    assert torch.equal(buffer, expected)


def test_other_images_have_another_fingerprint_also_when_they_replace_known_ones(tiny_domains: TinyDomains) -> None:
    domains = tiny_domains(3, 4)
    known = domains.fingerprint
    assert replace(domains, images=255 - domains.images).fingerprint != known
    assert domains.to("cpu").fingerprint == known


@pytest.mark.parametrize(
    ("shape", "said"),
    [((4, 8, 8, 3), "must have their channels first"), ((4, 3, 0, 8), "none 0"), ((4, 8, 8), "must have four sizes")],
)
def test_images_of_another_layout_are_refused(shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DomainSet(torch.zeros(shape, dtype=torch.uint8), torch.tensor([0, 0, 1, 1]), ("a", "b"), torch.zeros(4).bool())


def test_unknown_parts_and_domains_are_refused(tiny_domains: TinyDomains) -> None:
    domains = tiny_domains(3, 4)
    with pytest.raises(ValueError, match="parts train and test, not 'valid'"):
        domains.pool([0], "valid")  # type: ignore[arg-type]
    for wrong in (-1, len(domains.names)):
        with pytest.raises(ValueError, match=f"has no domain {wrong}: they are 0"):
            domains.pool([0, wrong], "train")
    with pytest.raises(ValueError, match="indices of domains from 0 on, not -1"):
        Split((0, -1), (), (1,), "x")


def test_the_fingerprint_changes_with_every_part_of_the_data() -> None:
    base = random_set(torch.Generator().manual_seed(2), 3)
    pixel, label, part = base.images.clone(), base.labels.clone(), base.is_test.clone()
    pixel[0, 0, 0, 0] ^= 1
    label[:] = label.flip(0)
    part[0] = ~part[0]
    others = [
        DomainSet(pixel, base.labels, base.names, base.is_test),
        DomainSet(base.images, label, base.names, base.is_test),
        DomainSet(base.images, base.labels, base.names, part),
        DomainSet(base.images, base.labels, ("x", "y", "z"), base.is_test),
    ]
    prints = [base.fingerprint, *(other.fingerprint for other in others)]
    assert len(set(prints)) == 5
    again = DomainSet(base.images.clone(), base.labels, base.names, base.is_test, "elsewhere")
    assert again.fingerprint == base.fingerprint


def test_channel_statistics_equal_those_of_the_pixels(tiny_domains: TinyDomains) -> None:
    whole = tiny_domains()
    pool = whole.pool(range(10), "train")
    pixels = whole.images[pool.images].double() / 255
    mean, std = whole.channel_statistics(pool)
    assert mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-4)


def test_a_domain_with_one_image_is_refused_by_name() -> None:
    with pytest.raises(MetaSiamError, match="'lonely' of shop has fewer than two images"):
        DomainSet(
            torch.zeros(3, 1, 2, 2, dtype=torch.uint8),
            torch.tensor([0, 0, 1]),
            ("full", "lonely"),
            torch.zeros(3, dtype=torch.bool),
            "shop",
        )


def test_every_domain_that_is_too_small_is_named_at_once() -> None:
    def shop(lonely: int) -> DomainSet:
        labels = torch.tensor([0, 0, *range(1, lonely + 1)])
        names = ("full", *(f"lonely {i}" for i in range(lonely)))
        images = torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8)
        return DomainSet(images, labels, names, torch.zeros(len(labels), dtype=torch.bool), "shop")

    with pytest.raises(MetaSiamError, match="domains 'lonely 0', 'lonely 1' of shop have fewer"):
        shop(2)
    with pytest.raises(MetaSiamError, match="'lonely 3', 'lonely 4' and 4 more of shop have fewer .* remove them"):
        shop(9)


def test_every_domain_without_test_images_is_named_at_once() -> None:
    is_test = torch.tensor([False, False, False, True, False, False])
    whole = DomainSet(
        torch.zeros(6, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 1, 1, 2, 2]), ("a", "b", "c"), is_test
    )
    with pytest.raises(MetaSiamError, match="domains 'a', 'c' of memory have no test images"):
        whole.pool(range(3), "test")


@settings(max_examples=60, deadline=None)
@given(total=st.integers(2, 40), held_out=st.integers(0, 40), validation=st.integers(0, 40))
def test_a_split_is_disjoint_and_complete_or_refused(total: int, held_out: int, validation: int) -> None:
    whole = DomainSet(
        torch.zeros(2 * total, 1, 1, 1, dtype=torch.uint8),
        torch.arange(total).repeat(2),
        tuple(str(i) for i in range(total)),
        torch.zeros(2 * total, dtype=torch.bool),
    )
    if total - held_out - validation < 2:
        with pytest.raises(MetaSiamError, match="at least 2 are needed"):
            split_domains(whole, held_out=held_out, validation=validation)
        return
    split = split_domains(whole, held_out=held_out, validation=validation)
    assert sorted((*split.seen, *split.validation, *split.held_out)) == list(range(total))
    assert split.held_out == tuple(range(total - held_out, total))
    assert len(split.validation) == validation


def listed(name: str) -> dict[str, list[str]]:
    about = json.loads((SPLITS / f"{name}.json").read_text(encoding="utf-8"))
    assert about.pop("source")
    return dict(about)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("cifar-fs", [64, 16, 20]),
        ("fc100", [60, 20, 20]),
        ("omniglot-vinyals", [1028, 172, 423]),
    ],
)
def test_published_splits_are_disjoint_and_complete(name: str, sizes: list[int]) -> None:
    parts = listed(name)
    assert [len(parts[part]) for part in ("train", "validation", "test")] == sizes
    assert len(set(chain(*parts.values()))) == sum(sizes)


def test_both_cifar_splits_are_of_the_same_classes() -> None:
    assert set(chain(*listed("cifar-fs").values())) == set(chain(*listed("fc100").values()))


def test_a_split_file_chooses_by_name(tiny_domains: TinyDomains, tmp_path: Path) -> None:
    whole = tiny_domains(6)
    path = tmp_path / "mine.json"
    names = whole.names
    path.write_text(json.dumps({"train": [names[5], names[0], names[2]], "validation": [names[1]], "test": [names[3]]}))
    split = split_domains(whole, split=path)
    assert (split.seen, split.validation, split.held_out) == ((0, 2, 5), (1,), (3,))


def test_settings_are_chosen_on_validation_classes_held_out_in_place_of_the_test_classes(
    tiny_domains: TinyDomains, tmp_path: Path
) -> None:
    whole = tiny_domains(6)
    path = tmp_path / "mine.json"
    names = whole.names
    path.write_text(json.dumps({"train": names[:3], "validation": names[3:5], "test": names[5:]}))
    split = split_domains(whole, split=f"{path}:validation")
    assert (split.seen, split.validation, split.held_out) == ((0, 1, 2), (), (3, 4))
    path.write_text(json.dumps({"train": names[:3], "validation": [], "test": names[5:]}))
    with pytest.raises(MetaSiamError, match="has no validation classes"):
        split_domains(whole, split=f"{path}:validation")


def test_rotated_copies_follow_the_domains_that_are_trained_on(tiny_domains: TinyDomains, tmp_path: Path) -> None:
    whole = tiny_domains(8)
    names = (*whole.names[:4], *(f"{name} rotated 90" for name in whole.names[:4]))
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"train": [names[0], names[2]], "validation": [names[1]], "test": [names[3]]}))
    split = split_domains(replace(whole, names=names), split=path)
    assert (split.seen, split.validation, split.held_out) == ((0, 2, 4, 6), (1,), (3,))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "cannot be read"),
        ('{"train": []}', "cannot be read"),
        ('{"train": ["cow"], "validation": [], "test": []}', "names the domain 'cow'"),
        ('{"train": ["domain 00", "domain 01"], "validation": [], "test": ["domain 00"]}', "more than one list"),
        ('{"train": ["domain 00"], "validation": [], "test": ["domain 01"]}', "fewer than 2 domains"),
    ],
)
def test_a_bad_split_file_is_refused(tiny_domains: TinyDomains, tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(MetaSiamError, match=complaint):
        split_domains(tiny_domains(4), split=path)


@pytest.mark.slow
def test_published_splits_name_the_classes_of_the_real_cifar100(cifar100: DomainSet, shared_data: Path) -> None:
    assert cifar100.counts("train").tolist() == [500] * 100
    assert cifar100.counts("test").tolist() == [100] * 100
    for name in ("cifar-fs", "fc100"):
        split = split_domains(cifar100, split=name)
        assert sorted((*split.seen, *split.validation, *split.held_out)) == list(range(100))
        original = json.loads((shared_data / "data" / "splits" / f"{name}.json").read_text())
        assert listed(name) == original


@pytest.mark.slow
def test_the_omniglot_split_names_the_real_characters(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    root = real_data("omniglot")
    trees = [root / half for half in ("images_background", "images_evaluation")]
    found = {f"{path.parent.name}/{path.name}" for tree in trees for path in tree.glob("*/character*")}
    assert set(chain(*listed("omniglot-vinyals").values())) == found


def test_one_domain_is_no_one_domains(tiny_domains):
    domains = tiny_domains(domains=1)
    with pytest.raises(MetaSiamError, match="has 1 domain; --held-out 1 "):
        split_domains(domains, held_out=1)
    with pytest.raises(MetaSiamError, match=r"has 1 image and 2 labels\."):
        DomainSet.from_arrays(torch.zeros(1, 8, 8, dtype=torch.uint8), [0, 1])
