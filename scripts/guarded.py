"""What there is to see of a guard and its programs, for scripts that disturb them."""


def is_program(pid):
    """Not one that writes the report of a death."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return b"BASTION_INTERNAL_GUARD=" in file.read()
    except OSError:
        return False


def children(pid):
    """Those of the guard: the program, and during a handover two."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [pid for pid in map(int, file.read().split()) if is_program(pid)]
    except OSError:
        return []
