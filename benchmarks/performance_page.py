"""Write ``docs/performance.md`` from ``benchmarks/results``: no number on that page is typed by hand."""

from __future__ import annotations

import json
import shlex
import statistics
from pathlib import Path
from typing import Any

from scipy.stats import t

from benchmarks.harness import RESULTS
from benchmarks.scaling import draw

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"

#: Of one 32 × 32 image (He et al., 2016, give the layers): multiply-adds of a forward pass, in millions, and numbers
#: kept for the backward pass, in thousands, by the convolutions of 16 × 32², 32 × 16² and 64 × 8².
NETWORKS = {
    name: {
        "million_macs": (
            16 * 27 * 1024
            + (2 * n * 16 * 16 + (2 * n - 1) * (32 * 32 // 4 + 64 * 64 // 16)) * 9 * 1024
            + (16 * 32 // 4 + 32 * 64 // 16) * 9 * 1024
        )
        / 1e6,
        "thousand_values": ((2 * n + 1) * 16384 + 2 * n * 8192 + 2 * n * 4096) / 1e3,
        "convolutions": 6 * n + 1,
    }
    for name, n in (("resnet20", 3), ("resnet56", 9))
}
#: NVIDIA's data sheet of the H200: bf16 without sparsity, and memory bandwidth.
H200_TFLOPS, H200_TB_PER_S = 989.0, 4.8
#: Passes over the kept values, without fusion: forward a convolution (2), BatchNorm (3), ReLU and sum (3), backward
#: twice as much.
PASSES = 24
IMAGES = 10_000 * 30 * 384


def load(name: str) -> dict[str, Any] | None:
    """Return a benchmark's committed result, if there is one."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def about(result: dict[str, Any]) -> str:
    """Say how and where a result was made."""
    machine, settings = result["machine"], result["settings"]
    module = "training_step" if result["benchmark"] == "training_loss" else result["benchmark"]
    load_average = machine["load_average"][0]
    gpu = f"one {machine['device_name']} and " if machine.get("device") == "cuda" else ""
    command = shlex.join(["python", "-m", f"benchmarks.{module}", *flags(settings)])
    return (
        f"`{command}` on {gpu}{machine['cores']} cores of "
        f"{machine.get('processor', 'an unnamed processor')}, torch {machine.get('torch', '(not loaded)')}, load "
        f"average {load_average} at the end (1 is one busy core; above {machine['cores']}, others were computing too)."
    )


def flags(settings: dict[str, Any]) -> list[str]:
    """Return saved settings as they are typed."""
    typed = []
    for name, value in settings.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):  # only options that are on by default can be seen in a result to keep
            typed += [f"--no-{option}"] if name == "levers" and not value else []
        elif value is not None:
            typed += [f"--{option}", str(value)]
    return typed


def between(found: dict[str, Any], digits: int = 2, unit: str = "") -> str:
    """Return a median with its extremes."""
    low, high = found["lowest"], found["highest"]
    return f"{found['median']:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def training_step(result: dict[str, Any]) -> str:
    """The rows of the training step, compiling and final losses."""
    rows, said = [], []
    for arch, found in result["results"].items():
        rows += [
            [
                arch,
                name,
                str(side["images_per_second"]),
                between(side["ratio"]) + " ×",
                between(side["ratio_of_cpu_seconds"]) + " ×",
                str(side["peak_mb"]),
            ]
            for name, side in found["sides"].items()
        ]
        if compiling := found.get("compiling"):
            said.append(
                f"Compiling {arch} took {compiling['seconds']} s and saves {compiling['saves_ms_per_step']} ms a step "
                f"({100 * compiling['saves_fraction']:.0f} %): paid back after {compiling['pays_back_after_steps']} "
                "steps. It is not part of the rates above."
            )
    if result["settings"].get("kernels"):
        said.append(
            "Ours runs on the CPU kernels of `metasiam/kernels`, which `--compile auto` builds in a second or two "
            "where g++ is there."
        )
    text = table(["", "side", "images/s", "wall clock", "CPU seconds", "peak MB"], rows)
    return text + "\n" + "\n\n".join(said) + "\n"


def training_loss(result: dict[str, Any]) -> str:
    """The final losses of both sides."""
    settings = result["settings"]
    rows = [
        [
            arch,
            name,
            f"{found['mean']:.4f}",
            ", ".join(f"{value:.4f}" for value in found["by_seed"]),
            ", ".join(f"{value:.1f}" for value in found.get("held_out_triplets", [])) or "not measured",
        ]
        for arch, sides in result["results"].items()
        for name, found in sides.items()
    ]
    said = f"Mean loss of the last tenth of {settings['loss_steps']} steps of 3 × {settings['batch']} images.\n\n"
    text = said + table(["", "side", "mean loss", "each seed's", "held-out triplets (%)"], rows)
    gaps = [
        [
            arch,
            f"ours − {name}",
            gap(ours["by_seed"], other["by_seed"], 4),
            gap(ours["held_out_triplets"], other["held_out_triplets"], 1),
        ]
        for arch, sides in result["results"].items()
        for name, other in sides.items()
        if name != "ours" and len((ours := sides["ours"])["by_seed"]) > 2 and "held_out_triplets" in other
    ]
    if not gaps:
        return text
    head = ["", "difference, seed by seed [95 %, Student's t]", "mean loss", "held-out triplets (points)"]
    return text + "\n" + table(head, gaps)


def gap(first: list[float], second: list[float], digits: int) -> str:
    """Return the mean of paired differences with its 95 % interval by Student's t."""
    found = [a - b for a, b in zip(first, second, strict=True)]
    half = float(t.ppf(0.975, len(found) - 1)) * statistics.stdev(found) / len(found) ** 0.5
    mean = statistics.mean(found)
    return f"{mean:+.{digits}f} [{mean - half:+.{digits}f}, {mean + half:+.{digits}f}]"


def overhead(result: dict[str, Any]) -> str:
    """The one ratio of the overhead."""
    found = result["results"]
    return (
        f"A whole iteration takes **{between(found['iteration_over_bare'], 3)} ×** the bare steps' time "
        f"({between(found['ms_per_inner_step']['iteration'], 1)} ms and "
        f"{between(found['ms_per_inner_step']['bare'], 1)} ms an inner step).\n"
    )


def sampling(result: dict[str, Any]) -> str:
    """Rates of the samplers."""
    rows = [
        [
            what.replace("_", " "),
            name,
            between(side["per_second"], 0),
            between(side["ratio"], 1) + " ×" if "ratio" in side else "",
        ]
        for what, sides in result["results"].items()
        for name, side in sides.items()
    ]
    text = table(["", "side", "a second", "times the other"], rows)
    if "precision" not in result["settings"]:
        return text
    kind = result["settings"]["precision"]
    return (
        f"{text}\nIn one thread. Triplet batches of ours are drawn for a task's 30 steps at once, as `metasiam "
        f"reptile` does, and their images are made in the type that its step takes here, {kind}.\n"
    )


def evaluation(result: dict[str, Any]) -> str:
    """The evaluation's ratio."""
    found = result["results"]
    return (
        f"{found['tasks']} tasks need {found['images_embedded_once']:,} embeddings instead of "
        f"{found['images_embedded_anew']:,}: **{between(found['ratio'], 1)} ×** faster "
        f"({between(found['ours_seconds'], 1)} s; the time for embedding anew is counted up from some of each task's "
        "pairs).\n"
    )


def memory_and_start(result: dict[str, Any]) -> str:
    """Peak memory and start-up time."""
    found = result["results"]
    rows = [[name, str(side["after_loading_mb"]), str(side["peak_mb"])] for name, side in found["training"].items()]
    imports = "imports" if found["imports_torch"] else "does not import"
    said = f"\n`metasiam --help` takes {between(found['help_seconds'])} s and {imports} torch.\n"
    return table(["training, 3 × 128", "MB after loading", "MB at the peak"], rows) + said


def gpu_step(result: dict[str, Any]) -> str:
    """Milliseconds a step on a GPU."""
    rows = [
        [
            arch,
            kind,
            between(found["ms_per_inner_step"]),
            str(found["minutes_of_10000_x_30"]),
            str(found["first_iteration_seconds"]),
            str(found["peak_gpu_mb"]),
        ]
        for arch, kinds in result["results"].items()
        for kind, found in kinds.items()
        if "failed" not in found
    ]
    return table(["", "step", "ms an inner step", "minutes of 10,000 × 30", "s to begin", "MB on the GPU"], rows)


def scaling(result: dict[str, Any]) -> str:
    """Time and memory as one thing grows."""
    varied, setting = result["results"]["varied"], result["results"]["base"]
    base = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in setting.items())
    same = [
        found["seconds_per_iteration"]
        for name, by_value in varied.items()
        for value, found in by_value.items()
        if value == str(setting[name])
    ]
    rows = [
        [
            name.replace("_", " "),
            value,
            f"{found['seconds_per_iteration']:.2f}",
            f"{found['cpu_seconds_per_iteration']:.2f}",
            f"{found['images_per_second']:.0f}",
            str(found["loaded_mb"]),
            str(found["peak_mb"]),
        ]
        for name, by_value in varied.items()
        for value, found in by_value.items()
    ]
    head = ["varied", "value", "s/iteration", "CPU s/iteration", "images/s", "MB loaded", "MB peak"]
    figure = "\n![CPU seconds an iteration and peak memory over each of them](scaling.svg)\n"
    about_it = (
        f"From {base}; one thing varied at a time, compiled. That setting itself stands in every group, in a process "
        f"of its own each time: its {min(same):.2f} to {max(same):.2f} s an iteration say how far this machine "
        "drifted.\n\n"
    )
    return about_it + table(head, rows) + figure


def on_paper() -> str:
    """What the full setting costs on GPUs: the floors by arithmetic, and from them or what was measured, more GPUs."""
    result = load("gpu_step")
    by_arch = result["results"] if result is not None else {}
    measured = {name: found["compiled graph"]["minutes_of_10000_x_30"] for name, found in by_arch.items()}
    rows = []
    for name, network in NETWORKS.items():
        arithmetic = IMAGES * 6 * network["million_macs"] * 1e6 / (H200_TFLOPS * 1e12) / 60
        memory = IMAGES * network["thousand_values"] * 1e3 * 2 * PASSES / (H200_TB_PER_S * 1e12) / 60
        launches = 300_000 * network["convolutions"] * 13 * 2e-6 / 60
        one = measured.get(name, memory + launches)
        rows.append(
            [
                name,
                f"{network['million_macs']:.0f}",
                f"{arithmetic:.1f}",
                f"{memory:.1f}",
                f"{launches:.1f}",
                f"{one:.0f}",
            ]
            + [f"{one / count:.1f}" for count in (8, 64)]
        )
    head = ["", "million multiply-adds an image", "min of arithmetic", "min of memory traffic", "min between kernels"]
    return table([*head, "1 GPU", "8 GPUs", "64 GPUs"], rows)


PROSE = {
    "start": """# Performance

How fast MetaSiam trains, samples and evaluates, and what it needs. Every number comes from a file in
`benchmarks/results/`, written by the command below it; `python -m benchmarks.performance_page` writes this page.
Ratios are medians over interleaved pairs, with the lowest and highest pair in brackets. CPU seconds (of all threads)
are given because other work on the machine distorts wall-clock time.

""",
    "training_step": """## Training step

Compared with a straightforward loop: three separate fp32 forward passes with a `DataLoader` for each domain
(`benchmarks/straightforward.py`). 3 × 128 images per step, sampling and augmentation included; each side runs in its
own process.

""",
    "training_loss": """### Does it learn as much?

Yes. The two losses are not the same quantity, though. With three forward passes BatchNorm normalises anchors,
positives and negatives separately; with one they share their statistics. So the command trains the straightforward
loop a second time with one forward pass, and that loss is the one to compare with. Each network, with its running
statistics, also answers triplets of the ten held-out domains (their training images, negatives from seen domains). A
difference is noise if its interval includes zero.

""",
    "overhead": """## Overhead of an iteration

Sampling, gathering, augmenting, interpolating and logging, compared with bare compiled forward, backward and Adam on
one fixed batch.

""",
    "sampling": """## Sampling

5-way 1-shot episodes with 15 queries, and triplet batches of 3 × 128 (augmented and normalised), image tensors
included.

""",
    "evaluation": """## Evaluation

The balanced protocol without adaptation, compared with embedding both images of every pair and all three of every
triplet.

""",
    "memory_and_start": """## Memory and start

""",
    "gpu_step": """## On a GPU

Whole Reptile iterations with the data set on the device, sampling and augmentation included, in bfloat16. `metasiam
reptile` and `metasiam triplet` run the CUDA graph; without it the GPU waits for Python. Compiling chooses
convolutions by timing them in the first run of a network and batch size (the seconds to begin); later runs reuse what
was compiled. The tests marked `gpu` passed there (`pytest -m gpu`; the two of compiled steps when convolutions were
not yet chosen by timing). They check that the graph computes what the plain step does, follows the learning rate and
never waits for the host.

""",
    "scaling": """## Cost as work grows

""",
    "processes": """## Many tasks, many processes

```
torchrun --nproc-per-node 8 -m metasiam reptile --meta-batch 4 --data cifar100 --out runs/eight
```

Every process takes its own tasks of an iteration (here 32 in all). The changes of weights, running statistics and
moments are summed once per iteration, over gloo on CPUs and NCCL on GPUs. Tasks are numbered by iteration and place,
not by process: two processes with a task each end within 1e-5 of one process with both (`pytest
tests/test_distributed.py`). `--meta-optimizer nesterov` adds outer momentum. `triplet` shares a larger batch instead
and averages gradients (DistributedDataParallel); BatchNorm normalises each process's own part, and the first
process's running statistics are kept.

The first process writes files and messages. Ctrl-C and SIGTERM stop all processes at the same iteration and save it.
If a process is lost, the others notice at their next exchange, one says so, and the first saves what it has. If the
first is lost, the last checkpoint counts (at most `--checkpoint-every` seconds old). `--resume` takes any number of
processes up to the run's tasks per iteration (for `triplet`: any that divides its batch), and shares the same work
among them. torchrun sets OMP_NUM_THREADS to 1; set it yourself for processes that should use more cores.

""",
    "paper": f"""## On paper: the full setting on 1, 8 and 64 GPUs

10,000 iterations of 30 inner epochs of 3 × 128 images are {IMAGES / 1e6:.0f} million
images forward and backward (three times a forward pass). These networks are narrow: arithmetic at an H200's
{H200_TFLOPS:.0f} bf16 TFLOP/s (data sheet) takes a minute or two, and what counts should be traffic to memory, here
{PASSES} passes over the kept values in bf16 at {H200_TB_PER_S} TB/s without any fusion, and the time between
kernels, here 13 of them for a convolution at 2 µs inside a CUDA graph. The minutes on 1 GPU are those measured above:
twice the two together, so kernels for so few channels reach neither bound. Those on 8 and 64 are their eighth and
sixty-fourth.

""",
    "paper_end": """
More GPUs take more tasks an iteration (`torchrun`; one all-reduce of weights and moments, 3 to 10 MB, an
iteration), so the same number of images needs 1/8 or 1/64 of the iterations; iterations themselves do not become
shorter. Whether so many tasks per iteration learn as much as iterations one after another is a question for `metasiam
compare`, not for this page.

ImageNet-size data (1.28 million images): at 32 × 32 they take 3.9 GB as bytes, at 84 × 84 27 GB, at 224 × 224 193 GB.
The first two fit into one large GPU as the whole data set does today. At 224 × 224 the images must stay in host
memory or be spread over the GPUs. A batch of 384 is 58 MB, 2 to 3 ms over PCIe 5: less than such a network's step, so
copying one batch ahead would hide it (this is not implemented). The samplers need 8 bytes per image and a few numbers
per domain, and their cost does not grow with either.
""",
}

SECTIONS = {
    "training_step": training_step,
    "training_loss": training_loss,
    "overhead": overhead,
    "sampling": sampling,
    "evaluation": evaluation,
    "memory_and_start": memory_and_start,
    "gpu_step": gpu_step,
    "scaling": scaling,
}


def main() -> None:
    """Write the page and its figure."""
    parts = [PROSE["start"]]
    for name, render in SECTIONS.items():
        result = load(name)
        module = "training_step" if name == "training_loss" else name
        missing = f"Not measured yet: `python -m benchmarks.{module}` writes it here.\n"
        parts += [PROSE[name], missing if result is None else render(result) + "\n" + about(result) + "\n", "\n"]
    parts += [PROSE["processes"], PROSE["paper"], on_paper(), PROSE["paper_end"]]
    PAGE.write_text("".join(parts), encoding="utf-8")
    if (result := load("scaling")) is not None:
        draw(result["results"]["varied"], PAGE.with_name("scaling.svg"))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
