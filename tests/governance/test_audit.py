"""Audit: whatever is done to the record behind the store's back is found, and the first place is named."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bedrock_evolution.dna.anchor import HeadAnchor
from bedrock_evolution.dna.canonical import canonical_json, checksum
from bedrock_evolution.dna.database import Database
from bedrock_evolution.dna.sqlite import SQLiteDNAStore
from bedrock_evolution.errors import IntegrityError
from bedrock_evolution.governance.audit import FORMAT, export, verify
from tests.governance.conftest import APP, draft


def altered(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement, parameters in statements:
            connection.execute(statement, parameters)


def document(path: Path, seq: int) -> dict[str, Any]:
    with closing(sqlite3.connect(path)) as connection:
        [row] = connection.execute("SELECT document FROM events WHERE seq = ?", (seq,)).fetchall()
    return dict(json.loads(row[0]))


def digest(path: Path, seq: int) -> str:
    with closing(sqlite3.connect(path)) as connection:
        [row] = connection.execute("SELECT hash FROM events WHERE seq = ?", (seq,)).fetchall()
    return str(row[0])


def rewrite(path: Path, seq: int, content: dict[str, Any]) -> None:
    altered(path, ("UPDATE events SET document = ? WHERE seq = ?", (canonical_json(content), seq)))


def forge(path: Path, seq: int, content: dict[str, Any]) -> None:
    """Give a row another content, with columns and a hash that fit it."""
    columns = (content["seq"], content["kind"], content["key"], canonical_json(content), checksum(content), seq)
    altered(path, ("UPDATE events SET seq = ?, kind = ?, key = ?, document = ?, hash = ? WHERE seq = ?", columns))


def test_an_untouched_record_is_intact(store: SQLiteDNAStore, path: Path) -> None:
    report = verify(store, APP)
    assert report.intact
    assert (report.checked, report.signed, report.unsigned) == (5, 5, 0)
    assert report.head == digest(path, 5)
    assert store.anchor is not None
    assert report.key == store.anchor.signer.key_id


def test_an_application_without_a_record_is_intact(store: SQLiteDNAStore) -> None:
    report = verify(store, "unheard of")
    assert (report.checked, report.problems) == (0, ())


def test_a_store_without_an_anchor_is_checked_by_itself(store: SQLiteDNAStore, path: Path) -> None:
    report = verify(SQLiteDNAStore(Database(path)), APP)
    assert report.intact
    assert (report.checked, report.signed, report.unsigned) == (5, 0, 0)


@pytest.mark.parametrize("seq", [1, 3, 5])
@pytest.mark.parametrize(
    "change",
    [
        {"why": "another"},
        {"at": "2026-03-02T12:00:00Z"},
        {"data": {"about": "x"}},
        {"cost_micro_usd": 1},
        {"actor": ""},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_altered_event_is_named(store: SQLiteDNAStore, path: Path, seq: int, change: dict[str, Any]) -> None:
    rewrite(path, seq, document(path, seq) | change)
    report = verify(store, APP)
    assert report.problems == (f"event {seq} was altered: its content does not match its hash",)
    assert report.checked == seq - 1


def test_an_altered_event_with_a_fitting_hash_is_named(store: SQLiteDNAStore, path: Path) -> None:
    forge(path, 3, document(path, 3) | {"why": "another"})
    problems = ("event 3 is not the one that was signed", "event 4 does not follow from the event before it")
    assert verify(store, APP).problems == problems


@pytest.mark.parametrize("seq", [1, 2, 4])
def test_a_removed_event_is_named(store: SQLiteDNAStore, path: Path, seq: int) -> None:
    altered(path, ("DELETE FROM events WHERE seq = ?", (seq,)))
    assert verify(store, APP).problems == (f"event {seq} is missing: the record goes on with event {seq + 1}",)


def test_a_removed_event_is_found_though_the_others_are_renumbered(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("DELETE FROM events WHERE seq = 3", ()))
    for seq in (4, 5):
        forge(path, seq, document(path, seq) | {"seq": seq - 1})
    assert verify(store, APP).problems[0] == "event 3 does not follow from the event before it"


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 4)])
def test_swapped_events_are_named(store: SQLiteDNAStore, path: Path, one: int, other: int) -> None:
    first, second = document(path, one), document(path, other)
    rewrite(path, one, second)
    rewrite(path, other, first)
    assert verify(store, APP).problems == (f"event {one} was altered: its content does not match its hash",)


def test_swapped_contents_under_their_old_numbers_are_named(store: SQLiteDNAStore, path: Path) -> None:
    first, second = document(path, 2), document(path, 4)
    kept = ("seq", "previous")
    rewrite(path, 2, second | {name: first[name] for name in kept})
    rewrite(path, 4, first | {name: second[name] for name in kept})
    assert "event 2 was altered" in verify(store, APP).problems[0]


def test_a_duplicated_event_is_named(store: SQLiteDNAStore, path: Path) -> None:
    copied = "INSERT INTO events SELECT app, 6, kind, 'copy', hash, document FROM events WHERE seq = 3"
    altered(path, (copied, ()))
    assert verify(store, APP).problems == ("event 6 was altered: it holds the content of event 3",)


def test_an_inserted_event_is_named(store: SQLiteDNAStore, path: Path) -> None:
    for seq in (5, 4, 3):
        forge(path, seq, document(path, seq) | {"seq": seq + 1})
    altered(path, ("INSERT INTO events SELECT app, 3, kind, 'forged', hash, document FROM events WHERE seq = 2", ()))
    forge(path, 3, document(path, 2) | {"seq": 3, "key": "forged", "previous": digest(path, 2)})
    problems = ("event 3 is not the one that was signed", "event 4 does not follow from the event before it")
    assert verify(store, APP).problems == problems


@pytest.mark.parametrize("number", ["NULL", "0", "-7", "'six'", "2.5"])
def test_a_record_that_no_reading_meets_is_told(store: SQLiteDNAStore, path: Path, number: str) -> None:
    altered(path, (f"INSERT INTO events SELECT app, {number}, kind, 'copy', hash, document FROM events LIMIT 1", ()))
    assert verify(store, APP).problems == ("1 of the records have no valid number, and no reading meets them",)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"app": "router"}', None, b"\xff"])
def test_an_event_that_cannot_be_read_is_named(store: SQLiteDNAStore, path: Path, content: object) -> None:
    altered(path, ("UPDATE events SET document = ? WHERE seq = 2", (content,)))
    assert verify(store, APP).problems == ("event 2 was altered: its content does not match its hash",)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"app":"router"}'])
def test_a_forged_content_that_is_no_event_is_named(store: SQLiteDNAStore, path: Path, content: str) -> None:
    fitting = hashlib.sha256(content.encode()).hexdigest()
    altered(path, ("UPDATE events SET document = ?, hash = ? WHERE seq = 2", (content, fitting)))
    assert verify(store, APP).problems == ("event 2 was altered: its content cannot be read",)


def test_a_column_that_is_no_text_is_named(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("UPDATE events SET key = CAST(X'ff' AS TEXT) WHERE seq = 2", ()))
    assert verify(store, APP).problems == ("event 2 was altered: its content does not match its row",)


# -- the anchor


def lines(anchor: HeadAnchor) -> list[dict[str, Any]]:
    return [json.loads(line) for line in anchor.path.read_text(encoding="utf-8").splitlines()]


def write(anchor: HeadAnchor, heads: list[dict[str, Any]]) -> None:
    anchor.path.write_text("".join(f"{json.dumps(head)}\n" for head in heads), encoding="utf-8")


def test_a_cut_tail_is_found_and_the_first_missing_event_named(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("DELETE FROM events WHERE seq > 3", ()))
    missing = "event 4 is missing: 5 events were signed, and the record ends with event 3"
    assert verify(store, APP).problems[0] == missing


def test_a_record_that_was_removed_as_a_whole_is_found(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("DELETE FROM events", ()), ("DELETE FROM dna", ()))
    missing = "event 1 is missing: 5 events were signed, and the record ends with event 0"
    assert verify(store, APP).problems == (missing,)


def test_a_cut_tail_is_found_though_the_application_went_on(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("DELETE FROM events WHERE seq > 4", ()))
    for number in range(3):
        store.append(draft(f"later/{number}"))
    report = verify(store, APP)
    assert report.problems == ("event 5 is not the one that was signed",)


def test_a_cut_tail_is_found_though_the_older_head_was_signed_again_first(
    store: SQLiteDNAStore, path: Path, anchor: HeadAnchor
) -> None:
    altered(path, ("DELETE FROM events WHERE seq > 4", ()))
    store.append(draft("later"))
    write(anchor, lines(anchor)[::-1])
    assert verify(store, APP).problems == ("event 5 is one of two that were signed under this number",)


def test_where_not_every_event_was_signed_the_last_good_one_is_named(
    store: SQLiteDNAStore, path: Path, anchor: HeadAnchor
) -> None:
    write(anchor, [line for line in lines(anchor) if line["count"] in (2, 5)])
    previous = digest(path, 3)
    for seq in (4, 5):
        forge(path, seq, document(path, seq) | {"actor": "nobody", "previous": previous})
        previous = digest(path, seq)
    told = "event 5 is not the one that was signed; what was changed comes after event 2"
    assert verify(store, APP).problems == (told,)


@pytest.mark.parametrize("content", [None, ""])
def test_a_record_without_its_anchor_is_not_confirmed(
    store: SQLiteDNAStore, anchor: HeadAnchor, content: str | None
) -> None:
    anchor.path.unlink()
    if content is not None:
        anchor.path.write_text(content)
    report = verify(store, APP)
    [problem] = report.problems
    assert "cannot be compared" in problem
    assert str(anchor.path) in problem
    assert report.signed == 0


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize(
    "change", [{"signature": "00" * 64}, {"signature": "no"}, {"key": "0" * 16}, {"head": "1" * 64}]
)
def test_a_line_that_its_key_did_not_sign_is_named(
    store: SQLiteDNAStore, anchor: HeadAnchor, place: int, change: dict[str, str]
) -> None:
    heads = lines(anchor)
    heads[place] |= change
    write(anchor, heads)
    report = verify(store, APP)
    [problem] = report.problems
    assert f"line {place + 1} of the anchor" in problem or "signed by key 0000000000000000" in problem
    assert report.signed == (5 if place < 4 else 4)


def test_a_head_that_nobody_signed_proves_no_missing_event(store: SQLiteDNAStore, anchor: HeadAnchor) -> None:
    write(anchor, [*lines(anchor), lines(anchor)[-1] | {"count": 99}])
    assert verify(store, APP).problems == ("line 6 of the anchor, on event 99, is not signed by its key",)


@pytest.mark.parametrize("line", ["{}", "[1]}", '{"app":"router","count":"1","head":"","key":"","signature":""}'])
def test_a_line_that_is_no_head_is_named(store: SQLiteDNAStore, anchor: HeadAnchor, line: str) -> None:
    with anchor.path.open("a") as file:
        file.write(f"{line}\n")
    assert verify(store, APP).problems == ("line 6 of the anchor is no signed head",)


def test_a_line_that_was_cut_short_is_passed_over(store: SQLiteDNAStore, anchor: HeadAnchor) -> None:
    content = anchor.path.read_bytes()
    anchor.path.write_bytes(content[:-40])
    report = verify(store, APP)
    assert report.intact
    assert (report.signed, report.unsigned) == (4, 1)


def test_heads_out_of_order_are_as_good(store: SQLiteDNAStore, anchor: HeadAnchor) -> None:
    heads = lines(anchor)
    write(anchor, [*heads[1::-1], heads[4], heads[3], heads[2], heads[4]])
    assert verify(store, APP).intact
    assert verify(store, APP).signed == 5


def test_events_that_are_not_signed_yet_are_no_problem_and_told(store: SQLiteDNAStore, path: Path) -> None:
    plain = SQLiteDNAStore(Database(path))
    plain.append(draft("by a process that died"))
    plain.append(draft("before it could sign"))
    report = verify(store, APP)
    assert report.intact
    assert (report.checked, report.signed, report.unsigned) == (7, 5, 2)


def test_reading_needs_the_public_key_only_and_makes_none(store: SQLiteDNAStore, path: Path) -> None:
    private, public = path.with_name("evolution.db.key"), path.with_name("evolution.db.key.pub")
    private.unlink()
    again = SQLiteDNAStore(Database(path), HeadAnchor.beside(Database(path)))
    assert verify(again, APP).signed == 5
    public.unlink()
    assert verify(again, APP).problems == ("the signatures cannot be checked: the public key of the anchor is missing",)
    assert not private.exists()
    assert not public.exists()


def test_another_public_key_confirms_nothing(store: SQLiteDNAStore, path: Path, tmp_path: Path) -> None:
    other = HeadAnchor.beside(Database(tmp_path / "other.db"))
    other.sign(APP, 1, "0" * 64)
    path.with_name("evolution.db.key.pub").write_bytes((tmp_path / "other.db.key.pub").read_bytes())
    report = verify(store, APP)
    assert report.signed == 0
    assert "signed by key" in report.problems[0]


def test_applications_of_one_store_share_an_anchor(store: SQLiteDNAStore, path: Path) -> None:
    for number in range(3):
        store.append(draft(f"{number}").model_copy(update={"app": "other"}))
    assert verify(store, "other").signed == 3
    assert verify(store, APP).signed == 5
    altered(path, ("DELETE FROM events WHERE app = 'other' AND seq = 3", ()))
    assert not verify(store, "other").intact
    assert verify(store, APP).intact


# -- DNA


def test_an_altered_generation_is_named(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("UPDATE dna SET document = replace(document, '0.2', '0.9') WHERE generation = 2", ()))
    assert "generation 2 of 'router' does not match its checksum" in verify(store, APP).problems[0]


@pytest.mark.parametrize("generation", [0, 1, 2])
def test_a_removed_generation_is_noticed_at_the_next(store: SQLiteDNAStore, path: Path, generation: int) -> None:
    altered(path, ("DELETE FROM dna WHERE generation = ?", (generation,)))
    assert verify(store, APP).problems == (f"generation {generation + 1} does not descend from the one before it",)


def test_a_forged_generation_with_a_fitting_checksum_is_noticed(store: SQLiteDNAStore, path: Path) -> None:
    forged = store.snapshot(APP, 1).successor({"n": 9}, mutation="forged")
    altered(
        path,
        (
            "UPDATE dna SET checksum = ?, document = ? WHERE generation = 2",
            (forged.checksum, json.dumps(forged.as_json())),
        ),
    )
    expected = (f"generation 2 of {APP!r} was altered: its content does not match its row.",)
    assert verify(store, APP).problems == expected


@pytest.mark.parametrize("change", ["parent = 'x'", "mutation = 'x'", "generation = 50"])
def test_altered_columns_of_a_generation_are_found(store: SQLiteDNAStore, path: Path, change: str) -> None:
    altered(path, (f"UPDATE dna SET {change} WHERE generation = 3", ()))
    assert "was altered: its content does not match its row" in verify(store, APP).problems[0]


def test_a_generation_that_no_event_explains_is_named(store: SQLiteDNAStore) -> None:
    head = store.head(APP)
    assert head is not None
    store.commit(head.checksum, head.successor({"n": 9}, mutation="smuggled"), draft("note"))
    assert verify(store, APP).problems == ("generation 4 became live without an event",)


def test_a_newest_generation_that_was_removed_is_noticed(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("DELETE FROM dna WHERE generation = 3", ()))
    [problem] = verify(store, APP).problems
    assert problem.startswith("event 4 made the DNA")
    assert problem.endswith("live, which is not in the store")


def test_both_the_events_and_the_dna_are_reported(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("DELETE FROM dna WHERE generation = 1", ()), ("DELETE FROM events WHERE seq = 2", ()))
    assert len(verify(store, APP).problems) == 2


# -- weaknesses


def test_a_record_filed_under_another_application_is_found(store: SQLiteDNAStore, path: Path) -> None:
    altered(path, ("UPDATE events SET app = 'other'", ()), ("UPDATE dna SET app = 'other'", ()))
    assert not verify(store, "other").intact


@pytest.mark.parametrize("change", ["seq = 50", "hash = 'x'", "key = 'x'", "kind = 'x'", "app = 'x'"])
def test_altered_columns_of_the_last_event_are_found(store: SQLiteDNAStore, path: Path, change: str) -> None:
    altered(path, (f"UPDATE events SET {change} WHERE seq = 5", ()))
    assert not verify(store, APP).intact


def test_it_reads_a_store_that_was_opened_anew(store: SQLiteDNAStore, path: Path) -> None:
    store.append(draft("one more"))
    assert verify(SQLiteDNAStore(Database(path)), APP).checked == 6


# -- export


SCRIPT = Path(__file__).parents[2] / "docs" / "verify_audit.py"


@pytest.fixture
def exported(store: SQLiteDNAStore, tmp_path: Path) -> Path:
    file = tmp_path / "record.jsonl"
    file.write_text("".join(f"{line}\n" for line in export(store, APP)), encoding="utf-8")
    return file


def verified(file: Path, *arguments: str, options: tuple[str, ...] = ("-I",)) -> subprocess.CompletedProcess[str]:
    """Run the script as somebody would who has not installed the package."""
    command = [sys.executable, *options, str(SCRIPT), str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=file.parent)


def test_the_script_is_short() -> None:
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 80
    assert "bedrock_evolution" not in SCRIPT.read_text(encoding="utf-8")


def test_an_export_is_a_header_then_events_as_they_were_hashed_then_signed_heads(exported: Path, path: Path) -> None:
    header, *rest = exported.read_text(encoding="utf-8").splitlines()
    public_key = path.with_name("evolution.db.key.pub").read_text().strip()
    assert json.loads(header) == {"format": FORMAT, "app": APP, "public_key": public_key}
    for seq, line in enumerate(rest[:5], 1):
        hashed = line[:-75] + "}"
        assert line[-75:-66] == ',"hash":"'
        assert hashlib.sha256(hashed.encode()).hexdigest() == json.loads(line)["hash"] == digest(path, seq)
        assert json.loads(hashed) == document(path, seq)
    assert [json.loads(line)["signed_head"]["count"] for line in rest[5:]] == [1, 2, 3, 4, 5]


def test_an_export_can_be_verified_without_the_package(exported: Path, path: Path) -> None:
    public_key = path.with_name("evolution.db.key.pub").read_text().strip()
    for arguments in ((), (public_key,)):
        done = verified(exported, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"intact: 5 events; head {digest(path, 5)}; last signed: 5\n")
        assert f"signatures checked with {public_key}" in done.stdout


def test_the_script_says_when_it_could_not_check_signatures(exported: Path) -> None:
    done = verified(exported, options=("-I", "-S"))
    assert done.returncode == 0
    assert "SIGNATURES WERE NOT CHECKED" in done.stdout


def test_an_export_that_another_key_signed_is_refused(exported: Path, tmp_path: Path) -> None:
    other = HeadAnchor.beside(Database(tmp_path / "other.db"))
    other.sign(APP, 1, "0" * 64)
    public_key = other.signer.public_key()
    assert public_key is not None
    done = verified(exported, public_key.hex())
    assert done.returncode == 1
    assert "InvalidSignature" in done.stderr


def line_of(change: Callable[[dict[str, Any]], None], place: int) -> Callable[[list[str]], None]:
    def apply(lines: list[str]) -> None:
        record = json.loads(lines[place])
        change(record)
        lines[place] = json.dumps(record, separators=(",", ":"), ensure_ascii=False)

    return apply


@pytest.mark.parametrize("options", [("-I",), ("-I", "-S", "-O")], ids=["with signatures", "chain only"])
@pytest.mark.parametrize(
    ("tamper", "named"),
    [
        (line_of(lambda record: record.update(why="another"), 3), 3),
        (line_of(lambda record: record["data"].update(about="x"), 1), 1),
        (line_of(lambda record: record.update(hash="0" * 64), 5), 5),
        (line_of(lambda record: record.update(app="other"), 0), 1),
        (lambda lines: lines.__setitem__(2, lines[2].replace('"rule"', '"ruse"')), 2),
        (lambda lines: lines.__setitem__(2, "{"), 2),
        (lambda lines: lines.pop(4), 4),
        (lambda lines: lines.pop(5), 5),
        (lambda lines: lines.insert(3, lines[2]), 3),
        (lambda lines: lines.insert(2, lines.pop(3)), 2),
        (lambda lines: lines.insert(6, lines[1]), 6),
        (lambda lines: lines.append(lines[1]), 6),
        (line_of(lambda record: record["signed_head"].update(head="0" * 64), 8), 3),
    ],
)
def test_the_script_finds_what_was_done_to_an_export(
    exported: Path, tamper: Callable[[list[str]], object], named: int, options: tuple[str, ...]
) -> None:
    lines = exported.read_text(encoding="utf-8").splitlines()
    tamper(lines)
    exported.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    done = verified(exported, options=options)
    assert done.returncode == 1
    assert f"event {named} " in done.stderr or ("InvalidSignature" in done.stderr and "-S" not in options)


def test_the_script_finds_a_history_that_was_chained_anew(store: SQLiteDNAStore, path: Path, exported: Path) -> None:
    previous = digest(path, 2)
    for seq in (3, 4, 5):
        forge(path, seq, document(path, seq) | {"actor": "nobody", "previous": previous})
        previous = digest(path, seq)
    exported.write_text("".join(f"{line}\n" for line in export(store, APP)), encoding="utf-8")
    done = verified(exported)
    assert (done.returncode, done.stderr) == (1, "event 3 is missing, or is not the one that was signed\n")


def test_an_export_without_a_signed_head_is_refused(exported: Path) -> None:
    lines = exported.read_text(encoding="utf-8").splitlines()[:6]
    exported.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    done = verified(exported)
    assert (done.returncode, done.stderr) == (1, "none of the 5 events is covered by a signed head\n")


def test_a_tampered_record_is_exported_as_it_is_so_that_others_can_see(
    store: SQLiteDNAStore, path: Path, exported: Path
) -> None:
    rewrite(path, 3, document(path, 3) | {"why": "another"})
    exported.write_text("".join(f"{line}\n" for line in export(store, APP)), encoding="utf-8")
    assert verified(exported).stderr == "event 3 was altered, removed, inserted or moved\n"
    altered(path, ("UPDATE events SET document = '{' WHERE seq = 2", ()))
    with pytest.raises(IntegrityError, match="event 2 cannot be exported"):
        list(export(store, APP))
