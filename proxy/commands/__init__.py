"""The actions of the commands. cli.py parses options and sets exit codes; output goes through `say`."""
