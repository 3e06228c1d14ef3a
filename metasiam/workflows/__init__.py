"""What a command does, without printing and without a command line: the same calls from Python."""
