"""Simulation: Verilated models, the DDR3 timing model, and the harness that drives both from Python."""
