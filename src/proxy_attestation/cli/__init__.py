"""The command line. Each command is a file; `main.py` loads only the one that is called."""
