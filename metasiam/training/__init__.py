"""State, step, loop and checkpoints: what every method trains with."""
