// A configuration and a stack that tests can take apart.

import { App } from 'aws-cdk-lib';
import { Template } from 'aws-cdk-lib/assertions';

import { readConfig } from '../lib/config';
import { ShimStack } from '../lib/shim-stack';

export const CERTIFICATE = 'arn:aws:acm:eu-central-1:111122223333:certificate/00000000-0000-0000-0000-000000000000';

/** What is said of CXone's platform where there is one: every context of it. */
export const ASSISTANCE = {
  cxoneCredentials: 'earpiece/cxone',
  cxoneApi: 'https://api.nicecxone.com',
  cxoneOrg: 'acme',
  cxoneBusNo: 4595000,
  triggers: [
    { name: 'upset', when: { sentimentBelow: -0.6 }, card: { type: 'warning', title: 'Upset', content: 'Say sorry.' } },
  ],
  knowledge: '/articles',
  auditKeep: '30d',
  uplinkSettings: { EARPIECE_KNOWLEDGE_LANGUAGE: 'de-DE' },
};

/** A context with a certificate, and these values beside or instead of it. */
export function context(values: Record<string, unknown>): (key: string) => unknown {
  const all: Record<string, unknown> = { certificateArn: CERTIFICATE, ...values };
  return (key) => all[key];
}

/** What the stack becomes with these values. */
export function synthesize(values: Record<string, unknown> = {}): Template {
  const config = readConfig(context(values));
  return Template.fromStack(new ShimStack(new App(), config.stackName, config));
}

/** One thing of which there is exactly one. */
export function only<T>(things: Record<string, T> | T[]): T {
  const all = Object.values(things);
  if (all.length !== 1) {
    throw new Error(`expected one, there are ${all.length}`);
  }
  return all[0]!;
}
