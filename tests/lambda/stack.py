#!/usr/bin/env python3
"""Makes what the functions need on a local AWS: the table, exactly as template.yaml describes it, and a bucket.

    stack.py ENDPOINT TABLE BUCKET
"""

import pathlib
import sys

import boto3
import yaml

TEMPLATE = pathlib.Path(__file__).resolve().parents[2] / "template.yaml"
# What CloudFormation knows and CreateTable does not.
NOT_OF_CREATE_TABLE = ("TimeToLiveSpecification", "PointInTimeRecoverySpecification", "SSESpecification", "Tags")


class Template(yaml.SafeLoader):
    """Reads CloudFormation's short forms (`!Ref`, `!Sub` …) as what stands behind them: nothing here needs more."""


Template.add_multi_constructor("!", lambda loader, _suffix, node: {
    yaml.ScalarNode: loader.construct_scalar,
    yaml.SequenceNode: loader.construct_sequence,
    yaml.MappingNode: loader.construct_mapping,
}[type(node)](node))


def main(endpoint, table, bucket):
    resources = yaml.load(TEMPLATE.read_text(encoding="utf-8"), Template)["Resources"]
    described = [each["Properties"] for each in resources.values() if each["Type"] == "AWS::DynamoDB::Table"]
    if len(described) != 1:
        sys.exit(f"stack.py: one table is expected in template.yaml, not {len(described)}")
    properties = {key: value for key, value in described[0].items() if key not in NOT_OF_CREATE_TABLE}
    local = {"endpoint_url": endpoint, "region_name": "us-east-1", "aws_access_key_id": "local",
             "aws_secret_access_key": "local"}
    dynamodb = boto3.client("dynamodb", **local)
    dynamodb.create_table(**{**properties, "TableName": table})
    dynamodb.get_waiter("table_exists").wait(TableName=table)
    dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=described[0]["TimeToLiveSpecification"])
    boto3.client("s3", **local).create_bucket(Bucket=bucket)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
