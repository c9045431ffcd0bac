"""``python -m piva_bench``: the command line."""

from piva_bench.cli.app import main

if __name__ == "__main__":
    main()
