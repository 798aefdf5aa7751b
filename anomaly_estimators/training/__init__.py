"""The training engine: skorch nets, batches, phases, schedules, guards, progress, checkpoints."""
