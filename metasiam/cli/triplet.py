"""``metasiam triplet``: classic triplet training."""

from __future__ import annotations

from metasiam.cli import options as o


def command(
    data: o.Data = None,
    data_dir: o.DataDir = None,
    image_size: o.ImageSize = None,
    skip_unreadable: o.SkipUnreadable = False,
    held_out: o.HeldOut = None,
    split: o.SplitName = None,
    validation: o.Validation = None,
    arch: o.Arch = None,
    loss: o.Loss = None,
    margin: o.Margin = None,
    temperature: o.Temperature = None,
    lr: o.LearningRate = None,
    batch_size: o.BatchSize = None,
    flip: o.Flip = None,
    shift: o.Shift = None,
    init: o.Init = None,
    epochs: o.Epochs = None,
    iterations: o.Steps = None,
    optimizer: o.Optimizer = None,
    weight_decay: o.WeightDecay = None,
    schedule: o.Schedule = None,
    seed: o.Seed = None,
    device: o.Device = None,
    precision: o.Precision = None,
    compile: o.Compile = None,
    out: o.Out = None,
    resume: o.Resume = None,
    overwrite: o.Overwrite = False,
    checkpoint_every: o.CheckpointEvery = 60.0,
    preset: o.Preset = None,
    pairs: o.Pairs = None,
    adapt_shots: o.AdaptShots = None,
    adapt_steps: o.AdaptSteps = None,
    curve_steps: o.CurveSteps = None,
) -> None:
    """Train an embedder the classic way, on triplets or class labels, then test it on classes it has never seen.

    Example: [bold]metasiam triplet --data cifar100 --epochs 150[/bold]
    """
    from metasiam.cli.training import DataOptions, RunOptions, run_training

    run_training(
        "triplet",
        o.given(
            arch=arch,
            loss=loss,
            margin=margin,
            temperature=temperature,
            lr=lr,
            batch_size=batch_size,
            flip=flip,
            shift=shift,
            init=init,
            epochs=epochs,
            iterations=iterations,
            optimizer=optimizer,
            weight_decay=weight_decay,
            schedule=schedule,
            seed=seed,
            device=device,
            precision=precision,
            compile=compile,
        ),
        DataOptions(data, data_dir, image_size, skip_unreadable, held_out, split, validation),
        RunOptions(out, resume, overwrite, checkpoint_every, preset, pairs, adapt_shots, adapt_steps, curve_steps),
    )
