"""The actions of the commands; output goes through `say`.

cli.py declares them, with demo.py and account_commands.py; shared.py has their frame.
"""
