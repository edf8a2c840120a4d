"""Build the Flex Template and launch it, with ``docker`` and ``gcloud``; ``--dry-run`` prints the commands and runs none.

    python -m deploy.dataflow.launch build --image REGION-docker.pkg.dev/PROJECT/REPOSITORY/llm-finops:TAG --template gs://B/llm.json
    python -m deploy.dataflow.launch run --name llm-finops --template gs://B/llm.json --region REGION \\
        --set source_from=kafka://broker:9092/llm-calls --set store_to=https://writer@clickhouse:8443 \\
        --set sdk_container_image=REGION-docker.pkg.dev/PROJECT/REPOSITORY/llm-finops:TAG
    python -m deploy.dataflow.launch drain --job-id ID --region REGION
"""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from deploy.dataflow.secret_env import named
from deploy.dataflow.template import metadata

CHECKOUT: Final = Path(__file__).resolve().parents[2]
CONTAINERFILE: Final = "deploy/dataflow/Containerfile"
METADATA: Final = "deploy/dataflow/metadata.json"

Command = list[str]


def build_commands(image: str, template: str, secrets: str = "") -> list[Command]:
    """Make the image, push it, and write the template's file. ``secrets``: see ``secret_env``.

    Raises:
        ValueError: ``secrets`` does not read.
    """
    named(secrets)
    args = [f"--build-arg=SECRETS={secrets}"] if secrets else []
    flex = ["gcloud", "dataflow", "flex-template", "build", template, f"--image={image}", "--sdk-language=PYTHON"]
    return [
        ["docker", "build", f"--file={CONTAINERFILE}", f"--tag={image}", "--platform=linux/amd64", *args, "."],
        ["docker", "push", image],
        [*flex, f"--metadata-file={METADATA}"],
    ]


def run_command(
    name: str,
    template: str,
    region: str,
    parameters: Mapping[str, str],
    *,
    flags: Sequence[str] = (),
    update: bool = False,
    renamed: Mapping[str, str] | None = None,
) -> Command:
    """Launch the template as a job called ``name``. ``flags`` are more of gcloud's, such as ``--max-workers=4``.

    ``update``: replace the job of that name that runs; ``renamed``: its old names of steps and what they are called now.

    Raises:
        ValueError: a parameter that the template does not have, that is not what it may be, or that is missing.
    """
    refuse_wrong(parameters)
    if renamed and not update:
        raise ValueError("steps are renamed only by an update")
    command = ["gcloud", "dataflow", "flex-template", "run", name, f"--template-file-gcs-location={template}"]
    command += [f"--region={region}", f"--parameters={listed(parameters)}"]
    if update:
        command.append("--update")
    if renamed:
        command.append(f"--transform-name-mappings={listed(renamed)}")
    return [*command, *flags]


def drain_command(job_id: str, region: str) -> Command:
    """End a job in order: what was read is written."""
    return ["gcloud", "dataflow", "jobs", "drain", job_id, f"--region={region}"]


def refuse_wrong(parameters: Mapping[str, str]) -> None:
    """Refuse what the template would refuse, before a machine is started for it.

    Raises:
        ValueError: see ``run_command``.
    """
    known = {one["name"]: one for one in metadata()["parameters"]}
    for name, value in parameters.items():
        if name not in known:
            raise ValueError(f"{name}: no such parameter; there are {', '.join(known)}")
        if not all(re.fullmatch(shape, value) for shape in known[name]["regexes"]):
            raise ValueError(f"{name}={value}: {known[name]['helpText']}")
    missing = [name for name, one in known.items() if not one["isOptional"] and name not in parameters]
    if missing:
        raise ValueError(f"missing: {', '.join(missing)}")


def listed(pairs: Mapping[str, str]) -> str:
    """Pairs as gcloud takes them: between commas, or, where a value has one, between a sign that none has."""
    texts = [f"{name}={value}" for name, value in pairs.items()]
    if not any("," in text for text in texts):
        return ",".join(texts)
    sign = next(sign for sign in "~;|#%!" if not any(sign in text for text in texts))
    return f"^{sign}^{sign.join(texts)}"


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for one in given:
        name, mark, value = one.partition("=")
        if not mark:
            raise ValueError(f"{one}: give it as NAME=VALUE")
        pairs[name] = value
    return pairs


def commands(words: Sequence[str]) -> tuple[list[Command], bool]:
    """The commands that ``words`` ask for, and whether they are only to be printed.

    Raises:
        ValueError: see ``run_command`` and ``build_commands``.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.dataflow.launch", description="The job on Dataflow.")
    actions = parser.add_subparsers(dest="action", required=True)
    build = actions.add_parser("build", help="make and push the image, write the template's file")
    build.add_argument("--image", required=True)
    build.add_argument("--template", required=True, help="gs://…/….json")
    build.add_argument("--secrets", default="", help="VARIABLE=projects/P/secrets/S/versions/V, between spaces")
    run = actions.add_parser("run", help="launch a job, or update the one that runs")
    run.add_argument("--name", required=True)
    run.add_argument("--template", required=True, help="gs://…/….json")
    run.add_argument("--region", required=True)
    run.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a parameter; may be repeated")
    run.add_argument("--flag", action="append", default=[], help="a flag of gcloud, as --flag=--max-workers=4; may be repeated")
    run.add_argument("--update", action="store_true", help="replace the job of this name that runs")
    run.add_argument("--renamed", action="append", default=[], metavar="OLD=NEW", help="a step that is called otherwise now")
    drain = actions.add_parser("drain", help="end a job in order")
    drain.add_argument("--job-id", required=True)
    drain.add_argument("--region", required=True)
    for action in (build, run, drain):
        action.add_argument("--dry-run", action="store_true", help="print the commands, run none")
    given = parser.parse_args(words)
    if given.action == "build":
        return build_commands(given.image, given.template, given.secrets), given.dry_run
    if given.action == "drain":
        return [drain_command(given.job_id, given.region)], given.dry_run
    parameters, renamed = _pairs(vars(given)["set"]), _pairs(given.renamed)
    flags = {"flags": given.flag, "update": given.update, "renamed": renamed}
    return [run_command(given.name, given.template, given.region, parameters, **flags)], given.dry_run


def main() -> int:
    try:
        asked, dry_run = commands(sys.argv[1:])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for command in asked:
        print(shlex.join(command), flush=True)
        if not dry_run and (code := subprocess.run(command, cwd=CHECKOUT, check=False).returncode):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
