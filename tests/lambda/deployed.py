#!/usr/bin/env python3
"""A stack on a local AWS: what it put out, one `NAME VALUE` a line; or everything that its functions logged; or, with an
address, where its functions find the connections. A second deployment with the parameter ConnectionsUrl would be the
way to say that, but the emulator leaves functions alone of which nothing but a parameter has changed.

    deployed.py ENDPOINT STACK [--logs | --connections URL]
"""

import sys

import boto3

CONNECTIONS = "EARPIECE_CONNECTIONS_URL"
LOCAL = {"region_name": "us-east-1", "aws_access_key_id": "local", "aws_secret_access_key": "local"}


def outputs(endpoint, stack):
    found = boto3.client("cloudformation", endpoint_url=endpoint, **LOCAL).describe_stacks(StackName=stack)["Stacks"][0]
    if not found["StackStatus"].endswith("_COMPLETE") or "ROLLBACK" in found["StackStatus"]:
        sys.exit(f"deployed.py: the stack is {found['StackStatus']}")
    for output in found.get("Outputs", []):
        print(output["OutputKey"], output["OutputValue"])


def logs(endpoint, stack):
    client = boto3.client("logs", endpoint_url=endpoint, **LOCAL)
    groups = client.get_paginator("describe_log_groups").paginate(logGroupNamePrefix=f"/aws/lambda/{stack}-")
    for group in (group["logGroupName"] for page in groups for group in page["logGroups"]):
        for page in client.get_paginator("filter_log_events").paginate(logGroupName=group):
            for event in page["events"]:
                print(group.rpartition("/")[2], event["message"].rstrip())


def connections(endpoint, stack, url):
    client = boto3.client("lambda", endpoint_url=endpoint, **LOCAL)
    pages = client.get_paginator("list_functions").paginate()
    for function in (function for page in pages for function in page["Functions"]):
        variables = function.get("Environment", {}).get("Variables", {})
        if function["FunctionName"].startswith(f"{stack}-") and CONNECTIONS in variables:
            client.update_function_configuration(
                FunctionName=function["FunctionName"], Environment={"Variables": {**variables, CONNECTIONS: url}}
            )
            print(function["FunctionName"])


if __name__ == "__main__":
    match sys.argv[1:]:
        case [endpoint, stack]:
            outputs(endpoint, stack)
        case [endpoint, stack, "--logs"]:
            logs(endpoint, stack)
        case [endpoint, stack, "--connections", url]:
            connections(endpoint, stack, url)
        case _:
            sys.exit(__doc__)
