"""The store's DynamoDB table in one region."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .calls import Clients
from .items import Part, decoded, encoded
from .place import Site


class Table:
    """The table of a site; all reads are strongly consistent.

    Args:
        clients: Make the calls.
        site: Names the table.
    """

    def __init__(self, clients: Clients, site: Site) -> None:
        self.clients = clients
        self.site = site

    def get(self, pk: str, sk: str) -> dict[str, Any] | None:
        """Return an item, or None: one read.

        Raises:
            StoreUnavailable: The table cannot be read now.
        """
        found = self._call("get_item", Key=encoded({"pk": pk, "sk": sk}), ConsistentRead=True).get("Item")
        return None if found is None else decoded(found)

    def query(
        self, pk: str, *, begins: str = "", above: str = "", newest_first: bool = False, limit: int | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the items of a partition in the order of their sort keys, a megabyte a read.

        Args:
            pk: The partition.
            begins: How their sort keys begin.
            above: Only sort keys above this one; together with `begins`.
            newest_first: In descending order.
            limit: How many at most.

        Raises:
            StoreUnavailable: The table cannot be read now.
        """
        values: dict[str, Any] = {":pk": pk}
        condition = "pk = :pk"
        if above:
            # Digits and names are below the tilde, so it ends what `begins` begins.
            values |= {":above": above + "\0", ":end": begins + "~"}
            condition += " AND sk BETWEEN :above AND :end"
        elif begins:
            values[":begins"] = begins
            condition += " AND begins_with(sk, :begins)"
        asked: dict[str, Any] = {
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": encoded(values),
            "ConsistentRead": True,
            "ScanIndexForward": not newest_first,
        }
        left = limit
        while left is None or left > 0:
            if left is not None:
                asked["Limit"] = left
            page = self._call("query", **asked)
            for item in page["Items"]:
                yield decoded(item)
            left = None if left is None else left - len(page["Items"])
            if "LastEvaluatedKey" not in page:
                return
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def transact(self, parts: Sequence[Part]) -> None:
        """Do all parts or none.

        Raises:
            ConditionFailed: The condition of a part did not hold; its reasons are in the order of the parts.
            StoreUnavailable: It is not known whether it was done.
        """
        self._call("transact_write_items", TransactItems=[part.request(self.site.table) for part in parts], named=False)

    def write(self, part: Part) -> None:
        """Do a single part.

        Raises:
            ConditionFailed: Its condition did not hold.
            StoreUnavailable: It is not known whether it was done.
        """
        [(kind, said)] = part.request(self.site.table).items()
        operation = {"Put": "put_item", "Update": "update_item", "Delete": "delete_item"}[kind]
        self._call(operation, named=False, **said)

    def _call(self, operation: str, *, named: bool = True, **arguments: Any) -> dict[str, Any]:
        table = {"TableName": self.site.table} if named else {}
        return self.clients.call("dynamodb", self.site.region, operation, **table, **arguments)
