"""`python -m geoseg.preview SCENE MAP OUT.png`."""

import sys

from geoseg.display.picture import picture
from geoseg.errors import GeosegError


def main(arguments: list[str]) -> int:
    """Write the picture; a failure is one line on stderr and an exit code: 2 for usage, 1 for all else."""
    if len(arguments) != 3 or any(word.startswith("-") for word in arguments):
        sys.stderr.write("usage: python -m geoseg.preview SCENE MAP OUT.png\n")
        return 2
    try:
        picture(*arguments)
    except GeosegError as fault:
        sys.stderr.write(f"geoseg: error: {' '.join(str(fault).split())}\n")
        return fault.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
