"""Evidence from the machine that this runs on."""
