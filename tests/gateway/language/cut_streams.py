"""Streams cut at random places, as many as wanted, under each policy; prints the sums.

`python -m tests.gateway.language.cut_streams 1000`
"""

import os
import subprocess
import sys


def main() -> int:
    """Run the test of it with so many streams."""
    count = sys.argv[1] if len(sys.argv) > 1 else "1000"
    command = [sys.executable, "-m", "pytest", "-q", "-s", "tests/gateway/language/test_cut_streams.py"]
    return subprocess.run(command, env=os.environ | {"CUT_STREAMS": count}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
