"""From a configuration to files that other tools read."""
