"""Reading ranges of a DynamoDB table or of its index: page after page, and over the shards of a partition in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from heapq import merge
from itertools import chain, islice
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any

from kubeq.queue.base import Cursor, Page
from kubeq.queue.dynamodb_calls import Calls
from kubeq.queue.dynamodb_items import row_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import QueryInputTypeDef, QueryOutputTypeDef


def page(calls: Calls, query: QueryInputTypeDef, shards: Sequence[str], limit: int, by: str) -> Page:
    """The first rows that a query finds under any of the hash keys, in the order of the attribute `by`.

    Each shard is asked for its share at once, and for some more because shares are uneven; one that has given all of
    that is asked again when its turn comes.
    """
    wanted = limit + 1  # whether there is one more says whether this is the last page
    mean = wanted / len(shards)
    share = ceil(mean + sqrt(mean)) + 1 if len(shards) > 1 else wanted
    query = {**query, "Limit": min(share, wanted)}
    streams = [items(calls, query, shard) for shard in shards]
    begun = calls.each(lambda stream: [*islice(stream, 1)], streams)
    whole = [chain(first, rest) for first, rest in zip(begun, streams, strict=True)]
    rows = [row_of(item) for item in islice(merge(*whole, key=lambda item: item[by]["S"].encode()), wanted)]
    if len(rows) < wanted:
        return Page(rows, None)
    last = rows[limit - 1]
    return Page(rows[:limit], Cursor(last.claimable_at if by == "d" else None, last.key.name))


def items(calls: Calls, query: QueryInputTypeDef, shard: str) -> Iterator[Mapping[str, Any]]:
    """What a query (of `p = :p` and more) finds under one hash key; asks for a page when the one before is used up."""
    values = {**query["ExpressionAttributeValues"], ":p": {"S": shard}}
    one: QueryInputTypeDef = {**query, "ExpressionAttributeValues": values}
    while True:
        answer = calls.ask(partial(_query, one))
        yield from answer["Items"]
        if not (last := answer.get("LastEvaluatedKey")):
            return
        one = {**one, "ExclusiveStartKey": last}


def _query(query: QueryInputTypeDef, client: DynamoDBClient) -> QueryOutputTypeDef:
    return client.query(**query)
