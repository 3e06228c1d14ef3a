"""Your own method: its options, what it trains on, and a command of its own.

A method is an options class and a function that builds its learner. This one draws P classes and K images of each for
every step, as metric learning often does.

python examples/own_method.py            # the embedded glyphs, under a minute
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

import metasiam as ms
from metasiam.learners.gradient_steps import GradientSteps
from metasiam.options.declare import Opt
from metasiam.options.few_shot import FewShotOptions


@dataclass(frozen=True, kw_only=True)
class BalancedOptions(FewShotOptions):
    """Each option is said once: its help, bounds and default are checked, saved and shown by themselves."""

    method = "balanced"
    losses = ("softmax",)

    loss: str = "softmax"
    classes: Annotated[int, Opt("Classes in a batch (P).", least=2)] = 32
    images: Annotated[int, Opt("Images of each class (K).", least=1)] = 6

    @property
    def batch_shape(self) -> tuple[int, int]:
        return 1, self.classes * self.images


def build(options: BalancedOptions, context, processes) -> GradientSteps:
    """Return the learner; `context` holds the data on the device, the embedder and the loss."""
    seen = context.seen
    starts = torch.cumsum(seen.counts, 0) - seen.counts

    def draw_batch(generator: torch.Generator) -> torch.Tensor:
        chosen = torch.randperm(len(seen.counts), generator=generator)[: options.classes]
        places = torch.rand(len(chosen), options.images, generator=generator).to(starts.device)
        rows = starts[chosen, None] + (places * seen.counts[chosen, None]).long()
        return seen.images[rows].reshape(1, -1)

    return GradientSteps(options, context, processes, draw_batch)


#: An installed package registers it in its pyproject.toml, and `metasiam balanced` is a command:
#: [project.entry-points."metasiam.methods"]
#: balanced = "my_package.my_module:BALANCED"
BALANCED = ms.Method(BalancedOptions, build, "Train a classifier on balanced batches.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs/own-method"))
    arguments = parser.parse_args()

    domains = ms.load_domains("glyphs")
    split = ms.split_domains(domains, held_out=10)
    run = ms.train(
        BALANCED,
        domains,
        split,
        out=arguments.out,
        overwrite=True,
        arch="resnet8",
        iterations=arguments.iterations,
        lr=0.015,
        temperature=0.1,
        schedule="onecycle",
        shift=2,
    )
    evaluation = ms.evaluate(run, domains, split, shots=(0,), pairs=500, triplets=500)
    triplets = evaluation.data["held_out"]["closed"]["0"]["triplet_accuracy"]["mean"]
    print(f"right of held-out triplets: {triplets:.1f} % (guessing: 50 %)")


if __name__ == "__main__":
    main()
