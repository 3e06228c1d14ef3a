"""``metasiam reptile``: meta-train an embedder."""

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
    iterations: o.Iterations = None,
    inner_epochs: o.InnerEpochs = None,
    meta_step: o.MetaStep = None,
    meta_schedule: o.MetaSchedule = None,
    meta_batch: o.MetaBatch = None,
    meta_optimizer: o.MetaOptimizer = None,
    meta_momentum: o.MetaMomentum = None,
    task_shots: o.TaskShots = None,
    ways: o.Ways = None,
    inner_optimizer: o.InnerOptimizer = None,
    beta1: o.Beta1 = None,
    optimizer_state: o.OptimizerState = None,
    schedule: o.Schedule = None,
    weight_decay: o.WeightDecay = None,
    batch_norm: o.BatchNorm = None,
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
    """Meta-train an embedder with Reptile, then test it on classes it has never seen.

    Example: [bold]metasiam reptile --data cifar100 --iterations 10000 --inner-epochs 30[/bold]

    The defaults are those of the published system, which take days on a CPU; try --preset quick first.
    """
    from metasiam.cli.training import DataOptions, RunOptions, run_training

    run_training(
        "reptile",
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
            iterations=iterations,
            inner_epochs=inner_epochs,
            meta_step=meta_step,
            meta_schedule=meta_schedule,
            meta_batch=meta_batch,
            meta_optimizer=meta_optimizer,
            meta_momentum=meta_momentum,
            task_shots=task_shots,
            ways=ways,
            inner_optimizer=inner_optimizer,
            beta1=beta1,
            optimizer_state=optimizer_state,
            schedule=schedule,
            weight_decay=weight_decay,
            batch_norm=batch_norm,
            seed=seed,
            device=device,
            precision=precision,
            compile=compile,
        ),
        DataOptions(data, data_dir, image_size, skip_unreadable, held_out, split, validation),
        RunOptions(out, resume, overwrite, checkpoint_every, preset, pairs, adapt_shots, adapt_steps, curve_steps),
    )
