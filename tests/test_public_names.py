"""The public names are complete, sorted, documented, and cheap to import."""

import subprocess
import sys
from pathlib import Path

import pytest

import metasiam


def test_public_names_are_sorted_and_each_can_be_had():
    assert metasiam.__all__ == sorted(metasiam.__all__)
    assert set(metasiam.__all__) == set(metasiam._HOMES) | {"__version__"}
    for name in metasiam.__all__:
        assert getattr(metasiam, name) is not None


def test_everything_public_has_a_docstring():
    bare = [n for n in metasiam.__all__ if n != "__version__" and not (getattr(metasiam, n).__doc__ or "").strip()]
    assert bare == []


def test_names_for_type_checkers_are_the_names_at_run_time():
    source = Path(metasiam.__file__).read_text(encoding="utf-8")
    block = source[source.index("if TYPE_CHECKING:") : source.index("_HOMES")]
    for name, home in metasiam._HOMES.items():
        assert f"from {home} import" in block
        assert name in block


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'no_such_thing'"):
        metasiam.no_such_thing  # noqa: B018


@pytest.mark.parametrize("code", ["import metasiam", "from metasiam.cli import run; run(['--help'])"])
def test_neither_import_nor_help_loads_torch(code):
    heavy = "torch numpy sklearn matplotlib safetensors PIL"
    check = f"{code}; import sys; print([m for m in '{heavy}'.split() if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"
