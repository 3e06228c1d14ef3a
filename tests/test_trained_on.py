"""Domains that a run was trained on are known again, also when a picture is missing or they lie elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from listeners import Heard

import metasiam
from metasiam.progress import Listener
from metasiam.runs import Run, create_run
from metasiam.trained_on import check_never_trained_on

KNOWN = r"was trained on 2 of the domains that would be held out or used for validation \(e.g. 'domain 02'\)"


@pytest.fixture
def domains(tiny_domains):
    return tiny_domains(domains=6, images=6, source="folder:pictures")


def trained(path, domains, seen, *, named=True, init=None) -> Run:
    data = {"source": domains.source, "options": {}, "fingerprint": domains.fingerprint, "domains": len(domains.names)}
    if named:
        data["seen_names"] = [domains.names[domain] for domain in seen]
    split = {"name": "", "seen": list(seen), "validation": [], "held_out": []}
    return create_run(path, {"options": {"method": "triplet", "init": init}, "data": data, "split": split})


def less(domains, source=None):
    """Return the domains without their first image."""
    changed = replace(
        domains, images=domains.images[1:], labels=domains.labels[1:], is_test=domains.is_test[1:],
        source=source or domains.source,
    )  # fmt: skip
    assert changed.fingerprint != domains.fingerprint
    return changed


class NoNotes(Listener):
    """Fails where something is noted."""

    def note(self, text):
        pytest.fail(f"noted: {text}")


@pytest.mark.parametrize("named", [True, False], ids=["by name", "an older run"])
@pytest.mark.parametrize("change", [lambda domains: domains, less], ids=["the same images", "a picture less"])
def test_what_was_trained_on_is_not_held_out(tmp_path, domains, change, named):
    run = trained(tmp_path / "run", domains, range(4), named=named)
    now = change(domains)
    with pytest.raises(metasiam.MetaSiamError, match=KNOWN):
        check_never_trained_on(run, now, metasiam.split_domains(now, held_out=4), NoNotes())
    with pytest.raises(metasiam.MetaSiamError, match="was trained on 1 of the domains"):
        check_never_trained_on(run, now, metasiam.split_domains(now, held_out=2, validation=1), NoNotes())
    check_never_trained_on(run, now, metasiam.split_domains(now, held_out=2), NoNotes())


def test_a_domain_more_does_not_move_the_others_out_of_sight(tmp_path, domains, tiny_domains):
    run = trained(tmp_path / "run", domains, range(4))
    more = tiny_domains(domains=7, images=6, source=domains.source)
    more = replace(more, names=("another", *domains.names))  # all places are others now
    with pytest.raises(metasiam.MetaSiamError, match=KNOWN):
        check_never_trained_on(run, more, metasiam.split_domains(more, held_out=4), NoNotes())
    check_never_trained_on(run, more, metasiam.split_domains(more, held_out=2), NoNotes())
    heard = Heard()
    older = trained(tmp_path / "older", domains, range(4), named=False)
    check_never_trained_on(older, more, metasiam.split_domains(more, held_out=4), heard)
    assert "does not say by name what it was trained on" in heard.notes[0]


def test_a_source_is_the_same_by_every_path_to_it(tmp_path, domains, monkeypatch):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    run = trained(tmp_path / "run", domains, range(4))
    for path in ("./pictures", tmp_path / "pictures", "link"):
        now = less(domains, f"folder:{path}")
        with pytest.raises(metasiam.MetaSiamError, match=KNOWN):
            check_never_trained_on(run, now, metasiam.split_domains(now, held_out=4), NoNotes())


def test_equal_names_of_another_source_are_noted(tmp_path, domains):
    run = trained(tmp_path / "run", domains, range(4))
    elsewhere = less(domains, "npz:other.npz")
    heard = Heard()
    check_never_trained_on(run, elsewhere, metasiam.split_domains(elsewhere, held_out=4), heard)
    assert len(heard.notes) == 1
    assert "was trained on 2 domains of folder:pictures with the names of domains held out" in heard.notes[0]
    check_never_trained_on(run, elsewhere, metasiam.split_domains(elsewhere, held_out=2), NoNotes())
    others = replace(elsewhere, names=tuple(f"thing {place}" for place in range(6)))
    check_never_trained_on(run, others, metasiam.split_domains(others, held_out=4), NoNotes())


@pytest.mark.parametrize("init", ["first", "first/embedder.safetensors"])
def test_what_a_run_started_from_counts_too_by_its_folder_or_its_weights(tmp_path, domains, init):
    trained(tmp_path / "first", domains, range(4))
    run = trained(tmp_path / "second", domains, range(2), init=str(tmp_path / init))
    now = less(domains)
    with pytest.raises(metasiam.MetaSiamError, match=f"first {KNOWN}"):
        check_never_trained_on(run, now, metasiam.split_domains(now, held_out=4), NoNotes())


def test_a_run_says_the_names_that_it_was_trained_on(tmp_path, domains, monkeypatch):
    quick = {"arch": "resnet8", "batch_size": 4, "iterations": 1, "device": "cpu", "precision": "fp32"}
    split = metasiam.split_domains(domains, held_out=2)
    run = metasiam.train("triplet", domains, split, out=tmp_path / "run", compile="off", **quick)
    stored = json.loads((run.path / "config.json").read_text())
    assert stored["data"]["seen_names"] == ["domain 00", "domain 01", "domain 02", "domain 03"]
    now = less(domains)
    with pytest.raises(metasiam.MetaSiamError, match=KNOWN):
        metasiam.evaluate(run, now, metasiam.split_domains(now, held_out=4))
    with pytest.raises(metasiam.MetaSiamError, match=KNOWN):
        metasiam.train("triplet", now, metasiam.split_domains(now, held_out=4), init=str(run.path), **quick)
    elsewhere = less(domains, "npz:other.npz")
    monkeypatch.setattr("metasiam.session.evaluate_embedder", lambda *arguments, **options: None)
    with pytest.warns(UserWarning, match="the numbers are not of new domains"):
        metasiam.evaluate(run, elsewhere, metasiam.split_domains(elsewhere, held_out=4))
