"""Every option, said once: type, default, bounds, help and panel. No torch here: the command line reads it."""
