"""Other toolkits: what goes to them and what comes from them. The only place that imports them."""

from __future__ import annotations

from metasiam.interop.learn2learn import EmbedderClassifier, EpisodeTasks, domain_set, learn2learn, meta_dataset

__all__ = ["EmbedderClassifier", "EpisodeTasks", "domain_set", "learn2learn", "meta_dataset"]
