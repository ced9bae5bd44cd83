"""What the commands of `policy` do."""
