"""Programs that use the accelerator, on a board or in simulation."""
