"""Lists of pairs as people write them: other dialects of CSV, other spellings of a path, and contradictions."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from pair_samples import write_list

from metasiam.cli import run
from metasiam.data.pairs import PairSet, also_in_test
from metasiam.data.sources import load_pairs, pair_images
from metasiam.errors import MetaSiamError


def _load(folder: Path, rows: str, header: str = "path_a,path_b,same") -> PairSet:
    return load_pairs(f"pairs:{write_list(folder, rows=rows, header=header)}", data_dir=folder / "data")


def _pairs(pairs: PairSet) -> list[tuple[str, str, bool]]:
    names = [os.path.basename(name) for name in pairs.names]
    columns = zip(pairs.first.tolist(), pairs.second.tolist(), pairs.same.tolist(), strict=True)
    return [(names[a], names[b], same) for a, b, same in columns]


@pytest.mark.parametrize(
    ("header", "lines"),
    [
        ("path_a, path_b, same, part", ["0-0.png, 0-1.png, 1, train", "0-0.png, 1-1.png, 0, test"]),
        ("path_a;path_b;same;part", ["0-0.png;0-1.png;1;train", "0-0.png;1-1.png;0;test"]),
        ("path_a\tpath_b\tsame\tpart", ["0-0.png\t0-1.png\t1\ttrain", "0-0.png\t1-1.png\t0\ttest"]),
        ("Path_A,PATH_B,Same,Part", ['"0-0.png","0-1.png",1.0,train', "0-0.png, 1-1.png,0.0,test,,", ",,,"]),
        ('"path_a", "path_b", "same", "part"', ['"0-0.png", "0-1.png", "yes", "train"', "0-0.png,1-1.png,no,test"]),
        ("path_a,path_b,same,part", [r".\sub\..\0-0.png,.\0-1.png,True,train", r"0-0.png,sub\..\1-1.png,False,test"]),
    ],
)
def test_dialects_of_csv_are_read_alike(tmp_path: Path, header: str, lines: list[str]) -> None:
    (tmp_path / "sub").mkdir()
    pairs = _load(tmp_path, "\n".join(lines) + "\n\n", header)
    assert _pairs(pairs) == [("0-0.png", "0-1.png", True), ("0-0.png", "1-1.png", False)]
    assert pairs.part.tolist() == [0, 2]


def test_a_file_whose_name_has_a_backslash_is_that_file(tmp_path: Path) -> None:
    write_list(tmp_path)
    (tmp_path / r"a\b.png").write_bytes((tmp_path / "5-0.png").read_bytes())
    pairs = _load(tmp_path, r"a\b.png,0-0.png,0,train", "path_a,path_b,same,part")
    assert sorted(_pairs(pairs)) == [(r"a\b.png", "0-0.png", False)]


def test_a_path_with_a_comma_that_is_not_quoted_is_named_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(MetaSiamError, match="line 3: 4 cells, but 3 columns have names"):
        _load(tmp_path, "0-0.png,0-1.png,1\na,b.png,0-1.png,0")


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (
            "0-0.png,1-1.png,1\n2-0.png,2-1.png,1\n1-1.png,0-0.png,0",
            r"lines 2 and 4, calls .*1-1\.png .* both the",
        ),
        ("0-0.png,1-1.png,1\n./0-0.png,sub/../1-1.png,0", "lines 2 and 3, calls .* both the same and different"),
        ("0-0.png,0-1.png,0,Ada,Ada", r"line 2, calls .*0-0\.png and .*0-1\.png different, but they both show 'Ada'"),
        ("0-0.png,1-1.png,1,Ada,Eve", "line 2, calls .* the same, but they show 'Ada' and 'Eve'"),
        ("0-0.png,1-1.png,1\n0-0.png,2-0.png,0,Ada,\n1-1.png,2-0.png,0,Eve,", "line 2, .* 'Ada' and 'Eve'"),
        (
            "0-0.png,2-1.png,0,Ada,\n./0-0.png,2-2.png,0,Eve,",
            r"lines 2 and 3, names both 'Ada' and 'Eve' on .*0-0",
        ),
    ],
)
def test_contradictions_end_with_the_lines_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: str, complaint: str
) -> None:
    (tmp_path / "sub").mkdir()
    header = "path_a,path_b,same,person_a,person_b"
    file = write_list(tmp_path, rows=rows, header=header)
    with pytest.raises(MetaSiamError, match=complaint):
        load_pairs(f"pairs:{file}", data_dir=tmp_path)
    assert run(["data", "show", f"pairs:{file}", "--data-dir", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_pair_that_is_said_twice_alike_is_no_contradiction(tmp_path: Path) -> None:
    pairs = _load(tmp_path, "0-0.png,1-1.png,0,test\n1-1.png,0-0.png,0,test", "path_a,path_b,same,part")
    assert len(pairs.part) == 2


def test_an_image_under_two_paths_is_one_image_to_the_leak_check(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write_list(tmp_path)
    (tmp_path / "link.png").symlink_to(tmp_path / "1-0.png")
    rows = "0-0.png,0-1.png,1,train\n0-0.png,1-0.png,0,train\nsub/../0-0.png,2-0.png,0,test\nlink.png,2-1.png,0,test"
    pairs = _load(tmp_path, rows, "path_a,path_b,same,part")
    assert len(pairs.images) == 5
    assert also_in_test(pairs, "train") == "2 of the 4 images"
    with pytest.raises(MetaSiamError, match=r"pairs .*1-0\.png with itself"):
        _load(tmp_path, "1-0.png,link.png,1")


def test_a_single_group_is_not_plural(tmp_path: Path) -> None:
    with pytest.raises(MetaSiamError, match="has 1 group of pairs that share nobody, too few for 5 parts"):
        _load(tmp_path, "0-0.png,0-1.png,1\n0-0.png,2-0.png,0")


def test_a_flipped_bit_in_the_packed_pairs_never_becomes_another_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"pairs:{write_list(tmp_path, people=2, rows='0-0.png,0-1.png,1,test', header='path_a,path_b,same,part')}"
    expected = load_pairs(name, data_dir=tmp_path)
    (packed,) = (tmp_path / "cache").glob("*.safetensors")
    whole = packed.read_bytes()
    decoded: list[int] = []
    decode = pair_images.decode_pictures
    monkeypatch.setattr(pair_images, "decode_pictures", lambda *a, **k: decoded.append(1) or decode(*a, **k))
    load_pairs(name, data_dir=tmp_path)
    assert decoded == []
    places = random.Random(0).sample(range(len(whole)), 60)
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        packed.write_bytes(damaged)
        found = load_pairs(name, data_dir=tmp_path)
        assert found.fingerprint == expected.fingerprint, place
        assert found.preparation == expected.preparation, place
    assert len(decoded) >= len(places) - 2  # blanks that pad the header are not read at all
