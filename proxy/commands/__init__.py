"""The actions of the commands; output goes through `say`. cli.py declares them, shared.py has their frame."""
