"""Train Reptile and classic triplet training under one budget, and compare them on domains neither has seen.

python examples/train_and_compare.py                              # the embedded glyphs, a minute or two
python examples/train_and_compare.py --data folder:photos --images 500000
python examples/train_and_compare.py --seeds 0 1 2                # each trained three times
"""

import argparse
from pathlib import Path

import metasiam as ms
from metasiam.reports.comparison import comparison_table
from metasiam.reports.rendering import to_markdown
from metasiam.workflows.compare import options_for_budget


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="glyphs")
    parser.add_argument("--images", type=int, default=38_400, help="budget of each method")
    parser.add_argument("--pairs", type=int, default=2000, help="test pairs of each held-out domain")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="train each method once for each")
    parser.add_argument("--out", type=Path, default=Path("runs/example"))
    arguments = parser.parse_args()

    domains = ms.load_domains(arguments.data)
    split = ms.split_domains(domains, held_out=10, validation=10)
    common = {"arch": "resnet8", "temperature": 0.1, "batch_size": 64, "lr": 0.015, "schedule": "onecycle", "shift": 2}
    methods = {
        "triplet": common | {"loss": "softmax"},
        # Tasks of half of the seen domains; the loss knows how often a task shows each.
        "reptile": common
        | {"loss": "balanced-softmax", "ways": 0, "inner_epochs": 10, "meta_step": 1.0, "meta_schedule": "constant"},
    }
    runs = {
        name: [
            ms.train(
                name,
                domains,
                split,
                out=arguments.out / f"{name}-seed-{seed}",
                overwrite=True,
                **options_for_budget(name, options | {"seed": seed}, arguments.images),
            )
            for seed in arguments.seeds
        ]
        for name, options in methods.items()
    }
    settings = ms.ProtocolSettings(shots=(0, 5), pairs=arguments.pairs)
    comparison = ms.compare(runs, domains, split, settings)
    print(to_markdown(comparison_table(comparison.data)))


if __name__ == "__main__":
    main()
