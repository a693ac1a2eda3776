// Where the shim lives: two zones, the load balancer in front, the tasks where nobody reaches them from outside.

import { aws_ec2 as ec2, aws_logs as logs } from 'aws-cdk-lib';
import { Construct } from 'constructs';

import type { Config } from './config';

/** The port at which a task listens. */
export const TASK_PORT = 8080;

/** The network, and who may talk to whom in it. */
export class Network extends Construct {
  /** Two zones, each with a public and a private subnet. */
  readonly vpc: ec2.Vpc;
  /** Of the load balancer: TLS from the peers in, the tasks' port out. */
  readonly balancer: ec2.SecurityGroup;
  /** Of the tasks: the load balancer in; AWS and the assist app out. */
  readonly tasks: ec2.SecurityGroup;

  constructor(scope: Construct, id: string, config: Config, logRetention: logs.RetentionDays) {
    super(scope, id);
    this.vpc = new ec2.Vpc(this, 'Vpc', {
      // Any two zones of whichever region this is deployed to: nothing is looked up.
      maxAzs: 2,
      natGateways: config.natGateways,
      subnetConfiguration: [
        { name: 'public', subnetType: ec2.SubnetType.PUBLIC, cidrMask: 24, mapPublicIpOnLaunch: false },
        { name: 'tasks', subnetType: ec2.SubnetType.PRIVATE_WITH_EGRESS, cidrMask: 22 },
      ],
      // What goes to the table and the recordings is most of the traffic: it neither leaves AWS nor pays for the NAT.
      gatewayEndpoints: {
        S3: { service: ec2.GatewayVpcEndpointAwsService.S3 },
        DynamoDb: { service: ec2.GatewayVpcEndpointAwsService.DYNAMODB },
      },
    });
    const rejected = new logs.LogGroup(this, 'RejectedTraffic', { retention: logRetention });
    this.vpc.addFlowLog('Rejected', {
      destination: ec2.FlowLogDestination.toCloudWatchLogs(rejected),
      trafficType: ec2.FlowLogTrafficType.REJECT,
    });

    this.balancer = this.group('Balancer', 'Load balancer of Earpiece: sockets from CXone');
    this.tasks = this.group('Tasks', 'Tasks of Earpiece: sockets from the load balancer');
    for (const peer of config.peers) {
      this.balancer.addIngressRule(ec2.Peer.ipv4(peer), ec2.Port.tcp(443), 'wss');
    }
    this.balancer.addEgressRule(this.tasks, ec2.Port.tcp(TASK_PORT), 'sockets and health checks');
    this.tasks.addIngressRule(this.balancer, ec2.Port.tcp(TASK_PORT), 'sockets and health checks');
    for (const port of new Set([443, ...config.assistPorts])) {
      this.tasks.addEgressRule(ec2.Peer.anyIpv4(), ec2.Port.tcp(port), port === 443 ? 'AWS, assist app' : 'assist app');
    }
  }

  private group(id: string, description: string): ec2.SecurityGroup {
    return new ec2.SecurityGroup(this, id, { vpc: this.vpc, description, allowAllOutbound: false });
  }
}
