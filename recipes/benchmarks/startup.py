"""How long a user waits for nothing: ``--help``, and imports, each in a fresh process.

python recipes/benchmarks/startup.py [--quick]
"""

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from harness import environment, interleave, parser, save, table

COMMANDS = {
    "python": ("-c", "pass"),
    "import lightning_rnnattn": ("-c", "import lightning_rnnattn"),
    "--help": ("-m", "lightning_rnnattn", "--help"),
    "import torch": ("-c", "import torch"),
    "ops, scores and layers": ("-c", "import lightning_rnnattn.layers"),
    "import lightning": ("-c", "import lightning"),
    "fit --help": ("-m", "lightning_rnnattn", "fit", "--help"),
}


def run(arguments: Sequence[str]) -> None:
    """One process, from start to end."""
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)


def main() -> None:
    """Runs everything."""
    options = parser(__doc__.split("\n", 1)[0]).parse_args()
    calls = {name: partial(run, arguments) for name, arguments in COMMANDS.items()}
    times = interleave(calls, seconds=0, at_least=3 if options.quick else 7)
    print(table(("process", "ms: median (fastest to upper quartile)"), [(name, str(x)) for name, x in times.items()]))
    results: dict[str, Any] = {name: x.summary() for name, x in times.items()}
    print(f"wrote {save('startup', options.out, {'environment': environment(options.device), 'times': results})}")


if __name__ == "__main__":
    main()
