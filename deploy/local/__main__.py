"""`python -m deploy.local demo [--reset] | run | servers | schema | with-servers COMMAND`."""

import argparse
import sys

from deploy.local import demo, schema, throwaway
from deploy.local.binaries import BinaryMissing
from deploy.local.ports import PortTaken
from deploy.local.process import ProgramFailed
from deploy.local.supervisor import AlreadyRunning


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description="Farebox on one machine")
    commands = parser.add_subparsers(dest="command", required=True)
    demo_parser = commands.add_parser("demo", help="everything, with seeded customers")
    demo_parser.add_argument("--reset", action="store_true", help="remove the data of earlier starts first")
    commands.add_parser("run", help="everything for development: DEBUG, reload, logs in the terminal")
    commands.add_parser("servers", help="PostgreSQL and Valkey only")
    commands.add_parser("schema", help="write deploy/schema.sql.gz from the migrations")
    throwaway_parser = commands.add_parser("with-servers", help="run a command against servers of its own")
    throwaway_parser.add_argument("program", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "demo":
                demo.demo(reset=arguments.reset)
            case "run":
                demo.run()
            case "servers":
                demo.servers()
            case "schema":
                schema.write()
            case "with-servers":
                return throwaway.with_servers(arguments.program)
    except (AlreadyRunning, BinaryMissing, PortTaken, ProgramFailed) as problem:
        print(f"\nFarebox could not start.\n{problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
