"""Names from a few pictures of each, with any embedder: enroll, identify and match from Python. Takes seconds.

Five letters get a name from eight pictures each. Sixty others, which nobody has named, teach what "unknown" looks like.
"""

import torch

import metasiam as ms

NAMED, BACKGROUND, PICTURES = 5, 60, 8

domains = ms.load_domains("glyphs")
names = domains.names[:NAMED]


def pictures(letter: int) -> torch.Tensor:
    """Return the images of a letter: uint8 [N, C, H, W]."""
    return domains.images[domains.labels == letter]


# A run, a weights file or any module is an embedder. This one has no weights: it sees where a picture is dark.
embedder = ms.Embedder(
    torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(12), torch.nn.Flatten()),
    image_size=domains.image_size,
    mean=(0.5,) * domains.channels,
    std=(0.5,) * domains.channels,
)
others = (domains.labels >= NAMED) & (domains.labels < NAMED + BACKGROUND)
background = ms.DomainSet.from_arrays(domains.images[others], domains.labels[others])

gallery = ms.enroll(
    {name: pictures(letter)[:PICTURES] for letter, name in enumerate(names)}, embedder, background=background
)
print(gallery)

for letter, name in enumerate(names):
    answers = gallery.identify(pictures(letter)[PICTURES:])
    nearest = sum(answer.nearest == name for answer in answers)
    named = sum(answer.name == name for answer in answers)
    print(f"{name}: nearest for {nearest} of {len(answers)} new pictures, and sure enough to say so for {named}")
strangers = [answer for letter in range(70, 75) for answer in gallery.identify(pictures(letter))]
unknown = sum(answer.name == "unknown" for answer in strangers)
print(f"other letters: {unknown} of {len(strangers)} are unknown")

verdict = gallery.match(pictures(0)[0], pictures(0)[1])
print(
    f"two pictures of {names[0]}: {'same' if verdict.same else 'different'}, {verdict.probability:.0%} likely the same"
)

# Embeddings will do, of whatever model, without pictures.
rows = torch.eye(3).repeat_interleave(2, 0)
print(ms.enroll((rows, ["a", "a", "b", "b", "c", "c"])).identify(rows[2])[0].nearest)
