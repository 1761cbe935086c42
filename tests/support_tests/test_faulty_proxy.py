"""The proxy, as boto3 and plain sockets see it."""

import hashlib
import http.client
import io
import os
import random
import socket
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from botocore.loaders import Loader

from tests.support.faulty_proxy import Call, FaultyProxy, Kind
from tests.support.moto_server import MotoServer, moto_server

pytestmark = pytest.mark.slow

REGION = "eu-central-1"
PATIENCE_S = 30.0
EVERY_BYTE = bytes(range(256)) * 300
_NAMES = count(1)
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[MotoServer]:
    with moto_server() as running:
        yield running


@pytest.fixture(scope="module")
def running_proxy(server: MotoServer) -> Iterator[FaultyProxy]:
    with FaultyProxy(server.url) as running:
        yield running


@pytest.fixture
def proxy(running_proxy: FaultyProxy) -> Iterator[FaultyProxy]:
    running_proxy.clear()
    yield running_proxy
    running_proxy.heal()


class Aws:
    """Clients that try once; those that are not asked to be patient wait half a second."""

    def __init__(self, api_models: Loader, url: str) -> None:
        self._session = botocore.session.Session()
        self._session.register_component("data_loader", api_models)
        self._session.set_credentials("test", "test")
        self._url = url
        self._made: dict[tuple[str, float, int], Any] = {}
        self.s3 = self.patient("s3", 0.5)
        self.dynamodb = self.patient("dynamodb", 0.5)

    def patient(self, service: str, read_timeout_s: float = 30.0, attempts: int = 1) -> Any:
        if (known := self._made.get((service, read_timeout_s, attempts))) is not None:
            return known
        config = Config(
            retries={"total_max_attempts": attempts},
            connect_timeout=5,
            read_timeout=read_timeout_s,
            max_pool_connections=50,
        )
        made = self._session.create_client(service, region_name=REGION, endpoint_url=self._url, config=config)
        return self._made.setdefault((service, read_timeout_s, attempts), made)


@pytest.fixture(scope="module")
def aws(api_models: Loader, running_proxy: FaultyProxy) -> Aws:
    return Aws(api_models, running_proxy.url)


@pytest.fixture(scope="module")
def behind(api_models: Loader, server: MotoServer) -> Aws:
    """Return clients that do not pass the proxy."""
    behind = Aws(api_models, server.url)
    behind.s3, behind.dynamodb = behind.patient("s3"), behind.patient("dynamodb")
    return behind


@pytest.fixture
def name(behind: Aws) -> str:
    """Return the name of a new bucket and a new table."""
    made = f"faulty-{next(_NAMES)}"
    behind.s3.create_bucket(Bucket=made, CreateBucketConfiguration={"LocationConstraint": REGION})
    behind.dynamodb.create_table(
        TableName=made,
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        BillingMode="PAY_PER_REQUEST",
    )
    return made


def item(sk: str, **more: Any) -> dict[str, Any]:
    return {"pk": {"S": "p"}, "sk": {"S": sk}, **more}


def part(table: str, sk: str) -> dict[str, Any]:
    return {"Put": {"TableName": table, "Item": item(sk), "ConditionExpression": "attribute_not_exists(pk)"}}


def objects(behind: Aws, bucket: str) -> list[str]:
    return [found["Key"] for found in behind.s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def items(behind: Aws, table: str) -> list[str]:
    return [found["sk"]["S"] for found in behind.dynamodb.scan(TableName=table)["Items"]]


def eventually(holds: Callable[[], Any]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


# -- each fault, as boto3 sees it, and what it does to the service


@pytest.mark.parametrize(
    ("kind", "error", "takes_effect"),
    [
        ("timeout_before", ReadTimeoutError, False),
        ("timeout_after", ReadTimeoutError, True),
        ("reset_before", ConnectionClosedError, False),
        ("reset_after", ConnectionClosedError, True),
    ],
)
def test_an_answer_that_does_not_come(
    kind: Kind, error: type[Exception], takes_effect: bool, proxy: FaultyProxy, aws: Aws, behind: Aws, name: str
) -> None:
    put = proxy.fail(kind, "s3", "PutObject")
    wrote = proxy.fail(kind, "dynamodb", "PutItem")
    with pytest.raises(error):
        aws.s3.put_object(Bucket=name, Key="a", Body=b"a")
    with pytest.raises(error):
        aws.dynamodb.put_item(TableName=name, Item=item("a"))
    proxy.quiet()
    assert (put.met, wrote.met) == (1, 1)
    assert objects(behind, name) == ["a"] * takes_effect
    assert items(behind, name) == ["a"] * takes_effect
    effect = 200 * takes_effect
    assert proxy.calls == [
        Call("s3", "PutObject", f"{name}/a", 0, effect),
        Call("dynamodb", "PutItem", "p a", 0, effect),
    ]


@pytest.mark.parametrize(
    ("kind", "s3", "dynamodb"),
    [
        ("unavailable", (503, "ServiceUnavailable"), (503, "ServiceUnavailable")),
        ("internal", (500, "InternalError"), (500, "InternalServerError")),
        ("throttle", (503, "SlowDown"), (400, "ProvisionedThroughputExceededException")),
        ("limited", (503, "SlowDown"), (400, "ThrottlingException")),
        ("conflict", (409, "ConditionalRequestConflict"), (400, "TransactionConflictException")),
        ("denied", (403, "AccessDenied"), (400, "AccessDeniedException")),
    ],
)
def test_a_refusal_in_the_form_of_the_service(
    kind: Kind, s3: tuple[int, str], dynamodb: tuple[int, str], proxy: FaultyProxy, aws: Aws, behind: Aws, name: str
) -> None:
    proxy.fail(kind, times=None)
    with pytest.raises(ClientError) as put:
        aws.s3.put_object(Bucket=name, Key="a", Body=b"a")
    assert told(put.value) == s3
    with pytest.raises(ClientError) as head:
        aws.s3.head_object(Bucket=name, Key="a")
    assert told(head.value) == (s3[0], str(s3[0])), "an answer to HEAD has no body to name the error in"
    with pytest.raises(ClientError) as wrote:
        aws.dynamodb.put_item(TableName=name, Item=item("a"))
    assert told(wrote.value) == dynamodb
    assert [(call.status, call.effect) for call in proxy.calls] == [(s3[0], 0), (s3[0], 0), (dynamodb[0], 0)]
    assert (objects(behind, name), items(behind, name)) == ([], [])


def told(error: ClientError) -> tuple[int, str]:
    return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]


def test_a_conflict_of_a_transaction_has_its_reasons(proxy: FaultyProxy, aws: Aws, behind: Aws, name: str) -> None:
    proxy.fail("conflict", "dynamodb", "TransactWriteItems")
    with pytest.raises(aws.dynamodb.exceptions.TransactionCanceledException) as lost:
        aws.dynamodb.transact_write_items(TransactItems=[part(name, "a"), part(name, "b")])
    assert [reason["Code"] for reason in lost.value.response["CancellationReasons"]] == ["TransactionConflict", "None"]
    assert items(behind, name) == []
    aws.dynamodb.transact_write_items(TransactItems=[part(name, "a"), part(name, "b")])
    assert [call.key for call in proxy.calls] == ["p a, p b"] * 2
    assert sorted(items(behind, name)) == ["a", "b"]


@pytest.mark.parametrize(
    ("service", "operation", "arguments"),
    [
        ("kms", "describe_key", {"KeyId": "alias/none"}),
        ("cloudwatch", "put_metric_data", {"Namespace": "n", "MetricData": [{"MetricName": "m", "Value": 1.0}]}),
        ("sts", "get_caller_identity", {}),
    ],
)
def test_other_services_are_told_apart_and_refused_in_their_own_form(
    service: str, operation: str, arguments: dict[str, Any], proxy: FaultyProxy, aws: Aws
) -> None:
    client = aws.patient(service)
    api_name = client.meta.method_to_api_mapping[operation]
    proxy.fail("denied", service, api_name)
    proxy.fail("unavailable", service, api_name, nth=2)
    for expected in ((400, "AccessDeniedException"), (503, "ServiceUnavailable")):
        with pytest.raises(ClientError) as refused:
            getattr(client, operation)(**arguments)
        assert told(refused.value) == expected
    assert {(call.service, call.operation) for call in proxy.calls} == {(service, api_name)}


def test_other_services_are_passed_on(proxy: FaultyProxy, aws: Aws) -> None:
    key = aws.patient("kms").create_key()["KeyMetadata"]["KeyId"]
    assert aws.patient("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyId"] == key
    metric = [{"MetricName": "m", "Value": 1.0}]
    aws.patient("cloudwatch").put_metric_data(Namespace="n", MetricData=metric)
    assert aws.patient("cloudwatch").list_metrics(Namespace="n")["Metrics"][0]["MetricName"] == "m"
    assert [(call.service, call.operation, call.key, call.status) for call in proxy.calls] == [
        ("kms", "CreateKey", "", 200),
        ("kms", "DescribeKey", key, 200),
        ("cloudwatch", "PutMetricData", "", 200),
        ("cloudwatch", "ListMetrics", "", 200),
    ]


def test_an_answer_that_is_cut_in_its_middle(proxy: FaultyProxy, aws: Aws, behind: Aws, name: str) -> None:
    behind.s3.put_object(Bucket=name, Key="a", Body=EVERY_BYTE)
    proxy.fail("cut", "s3", "GetObject")
    body = aws.s3.get_object(Bucket=name, Key="a")["Body"]
    with pytest.raises((ResponseStreamingError, ConnectionClosedError)):
        body.read()
    assert aws.s3.get_object(Bucket=name, Key="a")["Body"].read() == EVERY_BYTE
    assert [(call.status, call.effect) for call in proxy.calls] == [(0, 200), (200, 200)]


def test_a_delay_is_only_that(proxy: FaultyProxy, aws: Aws, behind: Aws, name: str) -> None:
    proxy.fail("delay", delay_s=0.7)
    began_s = time.monotonic()
    aws.patient("s3").put_object(Bucket=name, Key="a", Body=b"a")
    assert time.monotonic() - began_s >= 0.7
    proxy.fail("delay", delay_s=0.7)
    with pytest.raises(ReadTimeoutError):
        aws.s3.put_object(Bucket=name, Key="b", Body=b"b")
    eventually(lambda: proxy.calls[-1].effect)
    assert objects(behind, name) == ["a", "b"], "it is passed on although nobody waits any more"


# -- which requests


def test_the_nth_request_and_a_span(proxy: FaultyProxy, aws: Aws, name: str) -> None:
    fault = proxy.fail("unavailable", "s3", "PutObject", nth=2, times=2)
    proxy.fail("denied", "s3", key="/special")
    seen = []
    for key in ("a", "b", "c", "d", "special", "e"):
        try:
            aws.s3.put_object(Bucket=name, Key=key, Body=b"")
        except ClientError as error:
            seen.append((key, told(error)[0]))
        aws.s3.list_objects_v2(Bucket=name)
    assert seen == [("b", 503), ("c", 503), ("special", 403)]
    assert fault.met == 2
    assert [call.operation for call in proxy.calls] == ["PutObject", "ListObjectsV2"] * 6


def test_healing_ends_all_faults(proxy: FaultyProxy, aws: Aws, name: str) -> None:
    proxy.fail("denied", times=None)
    with pytest.raises(ClientError):
        aws.s3.put_object(Bucket=name, Key="a", Body=b"")
    proxy.heal()
    aws.s3.put_object(Bucket=name, Key="a", Body=b"")


@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after", "reset_after", "unavailable", "throttle"])
def test_a_client_that_tries_again_does_not_notice(
    kind: Kind, proxy: FaultyProxy, aws: Aws, behind: Aws, name: str
) -> None:
    proxy.fail(kind, "dynamodb")
    aws.patient("dynamodb", 0.5, attempts=3).put_item(TableName=name, Item=item("a"))
    assert [call.status == 200 for call in proxy.calls] == [False, True]
    assert items(behind, name) == ["a"]


KEY = {"Key": "é /+ü"}
UPLOAD = {**KEY, "UploadId": "u"}


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("put_object", {**KEY, "Body": b"a", "IfNoneMatch": "*"}),
        ("get_object", KEY),
        ("head_object", KEY),
        ("put_object_tagging", {**KEY, "Tagging": {"TagSet": []}}),
        ("get_object_tagging", KEY),
        ("get_object_retention", KEY),
        ("copy_object", {**KEY, "CopySource": {"Bucket": "other", "Key": "a"}}),
        ("delete_object", KEY),
        ("create_multipart_upload", KEY),
        ("upload_part", {**UPLOAD, "PartNumber": 1, "Body": b""}),
        ("complete_multipart_upload", UPLOAD),
        ("abort_multipart_upload", UPLOAD),
        ("list_parts", UPLOAD),
        ("list_objects", {}),
        ("list_objects_v2", {"Prefix": "x"}),
        ("list_object_versions", {}),
        ("delete_objects", {"Delete": {"Objects": [{"Key": "a"}]}}),
        ("head_bucket", {}),
        ("get_bucket_versioning", {}),
        ("get_public_access_block", {}),
        ("get_bucket_lifecycle_configuration", {}),
    ],
)
def test_operations_of_s3_are_told_apart(
    method: str, arguments: dict[str, Any], proxy: FaultyProxy, aws: Aws, name: str
) -> None:
    proxy.fail("denied", times=None)
    with pytest.raises(ClientError):
        getattr(aws.s3, method)(Bucket=name, **arguments)
    operation = aws.s3.meta.method_to_api_mapping[method]
    path = f"{name}/{arguments['Key']}" if "Key" in arguments else name
    assert proxy.calls == [Call("s3", operation, path, 403, 0)]


def test_items_are_named_in_the_log(proxy: FaultyProxy, aws: Aws, name: str) -> None:
    dynamodb = aws.patient("dynamodb")
    dynamodb.put_item(TableName=name, Item=item("a"))
    dynamodb.get_item(TableName=name, Key=item("a"))
    condition: dict[str, Any] = {
        "KeyConditionExpression": "pk = :pk",
        "ExpressionAttributeValues": {":pk": {"S": "p"}},
    }
    dynamodb.query(TableName=name, **condition)
    dynamodb.delete_item(TableName=name, Key=item("a"))
    assert [(call.operation, call.key) for call in proxy.calls] == [
        ("PutItem", "p a"),
        ("GetItem", "p a"),
        ("Query", "p"),
        ("DeleteItem", "p a"),
    ]
    proxy.clear()
    assert proxy.calls == []


# -- outages


def test_when_all_is_down_connections_are_refused(proxy: FaultyProxy, aws: Aws, name: str) -> None:
    aws.s3.put_object(Bucket=name, Key="a", Body=b"a")
    proxy.down()
    for _ in range(3):
        with pytest.raises((EndpointConnectionError, ConnectionClosedError)):
            aws.s3.get_object(Bucket=name, Key="a")
    with pytest.raises(EndpointConnectionError):
        aws.dynamodb.get_item(TableName=name, Key=item("a"))
    proxy.up()
    assert aws.s3.get_object(Bucket=name, Key="a")["Body"].read() == b"a"
    assert len(proxy.calls) == 2, "what was refused never arrived"


def test_one_service_is_down(proxy: FaultyProxy, aws: Aws, behind: Aws, name: str) -> None:
    proxy.down("dynamodb")
    aws.s3.put_object(Bucket=name, Key="a", Body=b"a")
    for _ in range(2):
        with pytest.raises(ConnectionClosedError):
            aws.dynamodb.put_item(TableName=name, Item=item("a"))
    assert items(behind, name) == []
    proxy.up()
    aws.dynamodb.put_item(TableName=name, Item=item("a"))
    assert [call.status for call in proxy.calls] == [200, 0, 0, 200]


def test_an_emulator_that_is_gone_answers_nothing(api_models: Loader) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, not listening
        with FaultyProxy(f"http://127.0.0.1:{nobody.getsockname()[1]}") as proxy:
            with pytest.raises(ConnectionClosedError):
                Aws(api_models, proxy.url).s3.list_buckets()
            assert proxy.calls == [Call("s3", "ListBuckets", "", 0, 0)]


# -- byte for byte


LAST_CHUNK = b"0\r\nLast: one\r\n\r\n"


class Recorder:
    """An upstream that keeps each request as it came off the wire and gives one answer."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heard: list[bytes] = []
        self.crowd = 0
        self.present = 0
        self.lock = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += stream.readline()
            names = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
            body = stream.read(int(names.get(b"content-length", b"0")))
            while b"transfer-encoding" in names and not body.endswith(LAST_CHUNK):
                body += stream.readline()
            with self.lock:
                self.heard.append(head + body)
                self.present += 1
                self.crowd = max(self.crowd, self.present)
                self.lock.notify_all()
                self.lock.wait_for(lambda: self.crowd >= self.awaited(head), timeout=PATIENCE_S)
                self.present -= 1
            connection.sendall(self._answer)

    def awaited(self, head: bytes) -> int:
        """Return how many requests have to be present before this one is answered."""
        return 0

    def close(self) -> None:
        self._listener.close()


@contextmanager
def recorded(answer: bytes, kind: type[Recorder] = Recorder) -> Iterator[tuple[FaultyProxy, Recorder]]:
    recorder = kind(answer)
    with FaultyProxy(recorder.url) as proxy:
        yield proxy, recorder
    recorder.close()


SIGNED = (
    b"Authorization: AWS4-HMAC-SHA256 Credential=test/20260101/eu-central-1/%s/aws4_request, SignedHeaders=host\r\n"
)


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%X%s\r\n%s\r\n" % (len(data), extension, data)


AWS_CHUNKED = (
    b"PUT /bucket/a%20b%2Bc?x-id=PutObject HTTP/1.1\r\nHost: here\r\n" + SIGNED % b"s3" + b"X-Amz-Meta-A: one\r\n"
    b"X-Amz-Meta-A: two\r\nContent-Encoding: aws-chunked\r\nTransfer-Encoding: chunked\r\n"
    b"X-Amz-Trailer: x-amz-checksum-crc32\r\nX-Amz-Decoded-Content-Length: 5\r\n\r\n"
    + chunk(b"5\r\nhello\r\n")
    + chunk(b"0\r\nx-amz-checksum-crc32: NhCmhg==\r\n\r\n", b";note=%22")
    + LAST_CHUNK
)
ITEM = b'{ "Item":  {"pk": {"S":"\\u00e9\xc3\xa9"} , "n":{"N":"1.0"}}}'
LENGTH = (
    b"POST / HTTP/1.1\r\nHost: here\r\n" + SIGNED % b"dynamodb" + b"X-Amz-Target: DynamoDB_20120810.PutItem\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(ITEM), ITEM)
)


@pytest.mark.parametrize("sent", [AWS_CHUNKED, LENGTH], ids=["aws-chunked", "length"])
def test_requests_and_answers_pass_as_they_are(sent: bytes) -> None:
    body = zlib.compress(EVERY_BYTE)
    answer = (
        b"HTTP/1.1 207 As You Like\r\nContent-Encoding: deflate\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )
    with recorded(answer) as (proxy, recorder):
        with socket.create_connection(("127.0.0.1", urlsplit(proxy.url).port or 0), timeout=PATIENCE_S) as client:
            for _ in range(2):  # over one connection
                client.sendall(sent)
                got = b""
                while len(got) < len(answer) and (more := client.recv(1 << 16)):
                    got += more
                assert got == answer
        assert [heard.replace(b"connection: close\r\n", b"") for heard in recorder.heard] == [sent, sent]


def test_boto3_and_the_emulator_exchange_the_same_bytes_through_it(proxy: FaultyProxy, aws: Aws, name: str) -> None:
    s3, dynamodb = aws.patient("s3"), aws.patient("dynamodb")
    digest = b64encode(hashlib.sha256(EVERY_BYTE).digest()).decode()
    s3.put_object(Bucket=name, Key="a", Body=io.BytesIO(EVERY_BYTE), ChecksumAlgorithm="SHA256")
    got = s3.get_object(Bucket=name, Key="a", ChecksumMode="ENABLED")
    assert got["Body"].read() == EVERY_BYTE
    assert got["ChecksumSHA256"] == digest
    large = random.Random(1).randbytes(6 << 20)
    s3.put_object(Bucket=name, Key="large", Body=large)
    assert s3.get_object(Bucket=name, Key="large")["Body"].read() == large
    middle = s3.get_object(Bucket=name, Key="large", Range="bytes=1000-70000")
    assert middle["Body"].read() == large[1000:70001]
    assert s3.head_object(Bucket=name, Key="large")["ContentLength"] == len(large)
    said = item(
        "é 字 🗼", b={"B": EVERY_BYTE}, n={"N": "12345678901234567890"}, m={"M": {"deep": {"L": [{"NULL": True}]}}}
    )
    dynamodb.put_item(TableName=name, Item=said)
    assert dynamodb.get_item(TableName=name, Key=item("é 字 🗼"))["Item"] == said
    assert {call.status for call in proxy.calls} == {200, 206}


def test_an_upload_in_chunks_with_its_checksum_at_the_end(proxy: FaultyProxy, behind: Aws, name: str) -> None:
    checksum = b64encode(zlib.crc32(EVERY_BYTE).to_bytes(4, "big"))
    framed = b"%x\r\n%s\r\n0\r\nx-amz-checksum-crc32:%s\r\n\r\n" % (len(EVERY_BYTE), EVERY_BYTE, checksum)
    client = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=PATIENCE_S)
    headers = {
        "Authorization": SIGNED.decode().strip().partition(": ")[2] % "s3",
        "Content-Encoding": "aws-chunked",
        "X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "X-Amz-Decoded-Content-Length": str(len(EVERY_BYTE)),
        "X-Amz-Sdk-Checksum-Algorithm": "CRC32",
        "X-Amz-Trailer": "x-amz-checksum-crc32",
    }
    client.request("PUT", f"/{name}/a", framed, headers)
    assert client.getresponse().read() == b""
    client.close()
    assert behind.s3.get_object(Bucket=name, Key="a")["Body"].read() == EVERY_BYTE
    assert proxy.calls == [Call("s3", "PutObject", f"{name}/a", 200, 200)]


# -- many at once


class Crowded(Recorder):
    def awaited(self, head: bytes) -> int:
        return 1 if b"/dynamodb/" in head else 2


def test_requests_to_dynamodb_are_passed_on_one_at_a_time_and_others_together(api_models: Loader) -> None:
    with recorded(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Crowded) as (proxy, recorder):
        aws = Aws(api_models, proxy.url)
        dynamodb, s3 = aws.patient("dynamodb"), aws.patient("s3")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: dynamodb.put_item(TableName="table", Item=item(str(n))), range(24)))
            assert recorder.crowd == 1
            list(pool.map(lambda n: s3.put_object(Bucket="bucket", Key=str(n), Body=b""), range(2)))
            assert recorder.crowd == 2, "each of the two was answered only when the other was there"


def test_eight_threads_race_for_the_same_items(proxy: FaultyProxy, aws: Aws, behind: Aws, name: str) -> None:
    s3, dynamodb = aws.patient("s3"), aws.patient("dynamodb")

    def race(thread: int) -> int:
        won = 0
        for n in range(5):
            s3.put_object(Bucket=name, Key=f"{thread}/{n}", Body=bytes([thread, n]))
            try:
                dynamodb.transact_write_items(TransactItems=[part(name, f"slot {n}"), part(name, f"{n} of {thread}")])
            except dynamodb.exceptions.TransactionCanceledException:
                continue
            won += 1
        return won

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(8))) == 5
    assert len(items(behind, name)) == 10
    assert len(objects(behind, name)) == 40
    written = [call.status for call in proxy.calls if call.operation == "TransactWriteItems"]
    assert sorted(written) == [200] * 5 + [400] * 35
    assert len(proxy.calls) == 80


# -- clients that are killed

CLIENT = """
    import boto3, sys
    from botocore.config import Config

    url, table = sys.argv[1:]
    config = Config(retries={"total_max_attempts": 1}, read_timeout=60)
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test")
    client = session.client("dynamodb", region_name="eu-central-1", endpoint_url=url, config=config)
    sys.stdin.readline()
    client.put_item(TableName=table, Item={"pk": {"S": "p"}, "sk": {"S": "a"}})
    print("answered", flush=True)
"""


@contextmanager
def process(program: str, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize(("kind", "left"), [("kill_before", []), ("kill_after", ["a"])])
def test_a_client_is_killed_when_it_has_sent_its_request(
    kind: Kind, left: list[str], proxy: FaultyProxy, aws: Aws, behind: Aws, name: str
) -> None:
    with process(CLIENT, proxy.url, name) as child:
        fault = proxy.fail(kind, "dynamodb", "PutItem", pid=child.pid)
        said, _ = child.communicate("go\n", timeout=PATIENCE_S)
    assert (said, child.returncode, fault.met) == ("", -9, 1)
    assert items(behind, name) == left
    assert proxy.calls == [Call("dynamodb", "PutItem", "p a", 0, 200 if left else 0)]
    aws.patient("dynamodb").put_item(TableName=name, Item=item("b"))
    assert items(behind, name) == [*left, "b"], "the proxy goes on"


def test_a_process_that_is_not_there_to_be_killed_is_reported(server: MotoServer, api_models: Loader) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()

    def kill_nobody() -> None:
        with FaultyProxy(server.url) as proxy:
            proxy.fail("kill_before", pid=child.pid)
            with pytest.raises(ReadTimeoutError):
                Aws(api_models, proxy.url).s3.list_buckets()

    with pytest.raises(RuntimeError, match=f"process {child.pid} cannot be killed"):
        kill_nobody()


HALF = """
    import socket, sys, time

    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
        connection.sendall(sys.stdin.buffer.read())
        print("sent", flush=True)
        time.sleep(600)
"""


@pytest.mark.parametrize("how", ["length", "chunked"])
def test_half_a_request_of_a_killed_client_is_not_passed_on(
    how: str, proxy: FaultyProxy, behind: Aws, name: str
) -> None:
    head = f"PUT /{name}/a HTTP/1.1\r\nHost: here\r\n{SIGNED.decode() % 's3'}"
    halves = {
        "length": "Content-Length: 10\r\n\r\nhello",
        "chunked": "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nwo",
    }
    with process(HALF, str(urlsplit(proxy.url).port)) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(head + halves[how])
        child.stdin.close()
        assert child.stdout.readline() == "sent\n"
        assert proxy.calls == []
        os.kill(child.pid, 9)
        eventually(lambda: proxy.calls)
    assert proxy.calls == [Call("s3", "PutObject", f"{name}/a", 0, 0)]
    assert objects(behind, name) == []
