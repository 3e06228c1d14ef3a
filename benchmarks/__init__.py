"""What the project claims about speed and memory, measured: one module a claim (see README.md)."""
