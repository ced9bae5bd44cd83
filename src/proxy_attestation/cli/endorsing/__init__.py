"""The parts of the `endorsements` command."""
