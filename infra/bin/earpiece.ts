// Reads the configuration from the context (`cdk.json`, `--context KEY=VALUE`), makes the stack, and nothing else.

import { App } from 'aws-cdk-lib';

import { readConfig } from '../lib/config';
import { ShimStack } from '../lib/shim-stack';

const app = new App();
const config = readConfig((key) => app.node.tryGetContext(key));
new ShimStack(app, config.stackName, config);
