"""`store init|doctor`: build a store in the cloud, and compare it with its blueprint."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import AsJson, Store, print_json
from .store_data import add_to as data_commands

if TYPE_CHECKING:
    from ..dna.aws.setup.cloud_setup import CloudSetup, Field, Step

group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Set up and look after a store in the cloud.")

ReplicationRole = Annotated[
    str, typer.Option("--replication-role", metavar="ARN", help="Let S3 replicate the home bucket, with this role.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands of this group."""
    data_commands(group)
    app.add_typer(group, name="store")


@group.command()
def init(
    store: Store = None, replication_role: ReplicationRole = "", dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Create the keys, buckets and tables that are missing, and change what differs; nothing is deleted."""
    setup = _setup(store, replication_role)
    steps = []
    for step in setup.apply(dry_run=dry_run):
        steps.append(step)
        if not as_json:
            print(_step(step))
    if not dry_run and (checkpoints := _prepared_checkpoints()) and not as_json:
        print(f"ready   checkpoints {checkpoints}")
    fields = [] if dry_run else list(setup.fields())
    wrong = [field for field in fields if not field.ok]
    if as_json:
        print_json({"dry_run": dry_run, "steps": steps, "fields": len(fields), "differs": wrong})
    else:
        print(_summed_up(steps, fields, dry_run))
        for field in wrong:
            print(_told(field))
    if wrong:
        raise typer.Exit(1)


@group.command()
def doctor(store: Store = None, replication_role: ReplicationRole = "", as_json: AsJson = False) -> None:
    """Compare the keys, buckets and tables with what they have to be, field by field; nothing is changed."""
    fields = list(_setup(store, replication_role).fields())
    wrong = [field for field in fields if not field.ok]
    if as_json:
        print_json({"ok": not wrong, "fields": fields})
    else:
        _print_fields(fields)
        print(f"{len(fields) - len(wrong)} of {len(fields)} fields are as they have to be")
    if wrong:
        if not as_json:
            print("  -> `bedrock-evolution store init` changes what differs")
        raise typer.Exit(1)


def _prepared_checkpoints() -> str:
    """Prepare the table of the checkpoints, where they have one of their own, and return its URL."""
    from ..bedrock.aws.credentials import store_session
    from ..dna.aws.calls import Clients
    from ..settings import Settings

    settings = Settings.load()
    if settings.checkpoints == "store":
        return ""
    from ..graph.cloud_checkpoints import prepare_checkpoints

    prepare_checkpoints(settings.checkpoints, Clients(lambda: store_session(settings), settings.aws_endpoints))
    return settings.checkpoints


def _setup(store: str | None, replication_role: str) -> CloudSetup:
    """Return the setup of the store that is named, or that the settings name."""
    import re

    from ..bedrock.aws.credentials import store_session
    from ..dna.aws.calls import Clients
    from ..dna.aws.place import SCHEME, CloudPlace
    from ..dna.aws.setup.blueprint import Blueprint
    from ..dna.aws.setup.cloud_setup import CloudSetup
    from ..errors import UsageError
    from ..settings import Settings

    settings = Settings.load(store=store)
    if not settings.store.startswith(SCHEME):
        raise UsageError(
            f"the store {settings.store} is a file, and needs no setting up.",
            hint="Name a store in the cloud: --store 's3://BUCKET/PREFIX?table=TABLE&region=REGION'.",
        )
    if replication_role and not re.fullmatch(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+", replication_role):
        raise UsageError(
            f"{replication_role!r} is no ARN of a role.",
            hint="Write arn:aws:iam::ACCOUNT:role/NAME; see docs/cloud.md.",
        )
    clients = Clients(lambda: store_session(settings), settings.aws_endpoints)
    blueprint = Blueprint(audit_retain_days=settings.audit_retain_days)
    return CloudSetup(clients, CloudPlace.parse(settings.store), blueprint, replication_role)


def _step(step: Step) -> str:
    if step.action == "create":
        return f"create  {step.resource}"
    wanted = "remove it" if step.wanted is None else _value(step.wanted)
    by_hand = "; change it by hand" if step.action == "leave" else ""
    return f"{step.action:<7} {step.resource}: {step.field}: {_value(step.found)} -> {wanted}{by_hand}"


def _summed_up(steps: list[Step], fields: list[Field], dry_run: bool) -> str:
    count = {action: sum(step.action == action for step in steps) for action in ("create", "set", "leave")}
    if dry_run:
        return f"to do: create {count['create']}, set {count['set']}; nothing was changed"
    right = sum(field.ok for field in fields)
    done = f"created {count['create']}, set {count['set']}" if count["create"] + count["set"] else "no change"
    return f"{done}; {right} of {len(fields)} fields are as they have to be"


def _print_fields(fields: Iterable[Field]) -> None:
    resource = ""
    for field in fields:
        if field.resource != resource:
            resource = field.resource
            print(resource)
        print(_told(field, indent="  ", resource=False))


def _told(field: Field, *, indent: str = "", resource: bool = True) -> str:
    where = f"{field.resource}: {field.name}" if resource else field.name
    if field.ok:
        return f"{indent}ok       {where}: {_value(field.found)}"
    return f"{indent}differs  {where}: wanted {_value(field.wanted)}, found {_value(field.found)}"


def _value(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "new"
    if value == "":
        return "''"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)
