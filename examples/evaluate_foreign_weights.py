"""Test weights that were trained elsewhere: a plain PyTorch state dict, never unpickled.

python examples/evaluate_foreign_weights.py classic-90-10.pt --arch resnet56 --data folder:cifar100
"""

import argparse

import metasiam as ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help=".pt state dict or .safetensors")
    parser.add_argument("--arch", required=True)
    parser.add_argument("--data", default="cifar100")
    parser.add_argument("--held-out", type=int, default=10)
    arguments = parser.parse_args()

    domains = ms.load_domains(arguments.data)
    split = ms.split_domains(domains, held_out=arguments.held_out)
    report = ms.evaluate(arguments.weights, domains, split, arch=arguments.arch, shots=(0,))
    print(report.table())


if __name__ == "__main__":
    main()
