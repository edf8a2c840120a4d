"""What the Flex Template's launcher runs: ``llm-finops run --follow`` on Dataflow, with the parameters of the launch."""

from __future__ import annotations

import os
import sys

from deploy.dataflow.secret_env import fetched
from deploy.dataflow.template import arguments


def command(given: list[str]) -> list[str]:
    """Arguments of ``llm-finops`` for what the launcher passes on."""
    settings, beam = arguments(given)
    # What is installed in the image is what workers run: nothing is staged for them to install.
    options = [*beam, *(["--sdk_location=container"] if not any(one.startswith("--sdk_location") for one in beam) else [])]
    log = ["--quiet", "--log-format=json", "--format=json"]
    return ["run", "--follow", "--runner-name=DataflowRunner", *log, *settings, *(f"--runner-options={one}" for one in options)]


if __name__ == "__main__":
    from pipelines.cli import main

    os.environ.update(fetched(os.environ))
    sys.argv[1:] = command(sys.argv[1:])
    main()
