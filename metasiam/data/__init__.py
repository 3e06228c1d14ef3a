"""Sources, domain sets, splits, samplers and augmentation: everything before the learner."""
