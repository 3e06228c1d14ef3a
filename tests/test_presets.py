"""The names of presets: today's, and the earlier ones that go on working."""

from __future__ import annotations

import pytest

from metasiam.errors import MetaSiamError
from metasiam.options.presets import preset_options


@pytest.mark.parametrize("method", ["triplet", "reptile"])
def test_seed_is_another_word_for_the_preset_published(method: str) -> None:
    assert preset_options("seed", method) == preset_options("published", method)
    assert preset_options("published", method)[0] == {"validation": 0}


@pytest.mark.parametrize("ending", ["", "-tf", "-step", "-sgd", "-exponential"])
def test_so_it_is_for_pairs(ending: str) -> None:
    options = preset_options(f"published{ending}", "siamese")
    assert preset_options(f"seed{ending}", "siamese") == options
    assert options[1]["head"] == "l1"


def test_what_is_offered_has_today_s_names() -> None:
    with pytest.raises(MetaSiamError, match="published") as found:
        preset_options("fast", "triplet")
    assert "seed" not in str(found.value)
    with pytest.raises(MetaSiamError, match="protonet has no preset published"):
        preset_options("seed", "protonet")
    with pytest.raises(MetaSiamError, match="published-tf") as found:
        preset_options("fast", "siamese")
    assert "seed" not in str(found.value)
