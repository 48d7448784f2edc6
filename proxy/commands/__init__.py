"""What each command does. cli.py parses, prints and exits; these are given a way to say something."""
