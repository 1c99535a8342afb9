"""The errors a user can cause. Scripts print them as one line and leave with exit code 2; nothing else is caught."""


class UserError(Exception):
    """Something outside the program is wrong: a file, a flag, a folder. The message is one line that says what and, where it can, what to do."""
