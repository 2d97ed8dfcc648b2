"""The command line as ``python -m graftwork``."""

import os
import sys

from graftwork_command import WAITING, main, unset

if __name__ == "__main__":
    if unset() and os.name == "posix" and sys.orig_argv[1:3] == ["-m", "graftwork"]:
        # Python has loaded the package, and torch with it, to find this file: start once more, with the setting.
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **WAITING})
    main()
