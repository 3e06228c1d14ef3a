"""Episodes answered by logistic regression on the support instead of nearest centroids.

Source: Tian et al., "Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?" (2020), who also take
scikit-learn's on embeddings of length 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from metasiam.data.tasks import Episodes


def logistic_accuracy(embeddings: Tensor, episodes: Episodes, distance: str, *, penalty: float = 10.0) -> Tensor:
    """Classify every query by logistic regression on its episode's support.

    Args:
        embeddings: float [M, D], on the CPU.
        episodes: support [E, ways, shots] and query [E, ways, queries] as rows of ``embeddings``.
        distance: ``cosine`` brings the embeddings to length 1 first.
        penalty: scikit-learn's C; higher is a weaker penalty.

    Returns:
        float [E, ways], the share of right answers for each way of each episode.
    """
    rows = (F.normalize(embeddings, dim=1) if distance == "cosine" else embeddings).double().numpy()
    shares = []
    for support, query in zip(episodes.support.numpy(), episodes.query.numpy(), strict=True):
        truth = torch.arange(len(support))
        machine = LogisticRegression(C=penalty, max_iter=1000)
        machine.fit(rows[support.ravel()], truth.repeat_interleave(support.shape[1]).numpy())
        answers = torch.from_numpy(machine.predict(rows[query.ravel()]))
        shares.append((answers.view(query.shape) == truth.unsqueeze(1)).float().mean(1))
    return torch.stack(shares)
