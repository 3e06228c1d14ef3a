"""What the numbers mean: verification, calibration, adaptation, episodes and their statistics."""
