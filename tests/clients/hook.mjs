#!/usr/bin/env node
// CXone's audio hook as spoken by a WebSocket client that nobody here wrote: Node's `ws`.
//
//     hook.mjs BASE_URL DATA_FOLDER TOKEN        the same as hook.py, see there
//
// `ws` comes from .tools/node of this repository (tests/tools/install node).

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { SAMPLES_PER_SECOND, Wrong, check, checkRecording } from "./recording.mjs";

const toolsFolder = new URL("../../.tools/node/", import.meta.url);
const require = createRequire(toolsFolder);
const { WebSocket } = require("ws");

const CONNECTED = '{"command":"CONNECTED","messageType":"COMMAND","message":"BEGIN AUDIO STREAM"}';
const FRAME_SAMPLES = 160;
// The same in hook.py, but for the ids: both clients may share a server.
const BUS_FIRST = 4900n;
const CONTACT_FIRST = 49_000_000_000n;
const WRONG_TOKEN = "wrong-token-of-hook-mjs";
const PRIVATE = "spoken-words-of-hook-mjs";
const ODD_SIZES = [8000, 333, 160, 7, 1, 1, 7, 160, 333, 8000];

const ANSWER_MS_MAX = 10_000;
const CASE_MS_MAX = 60_000;
const DEADLINE_S = [4, 9];
const REFUSAL_S_MIN = 0.9;
// A pause between two frames that is longer than this may show as silence in the recording.
const PAUSE_S_MIN = 0.1;

const USUAL_FIELDS = {
  authenticationToken: '"@TOKEN@"',
  executionInfo:
    '{"contactId":@CONTACT@,"busNo":@BUS@,"requestId":7301,"actionType":"AGENTASSIST","actionId":12,' +
    '"scriptName":"Voice\\\\Inbound"}',
  systemTelemetryData:
    '{"consumerProcessHost":"media-17","consumerProcessName":"MediaServer","consumerProcessVersion":"24.3.1",' +
    '"inContactClusterAlias":"C31","inContactScriptEngineHost":"se-9","consumerMetaData":{"note":"@PRIVATE@"}}',
  streamPerspective: '"TX"',
  streamsConfiguration: "null",
  appParams: '{"queue":"billing","note":"@PRIVATE@"}',
  appConfig: '{"language":"en-US"}',
};
const SETTINGS = ["channel", "token", "carries", "parameter", "close", "says", "frame", "first", "slow", "unknown"];

if (process.argv.length !== 5) {
  console.error("usage: hook.mjs BASE_URL DATA_FOLDER TOKEN");
  process.exit(2);
}
const [baseUrl, dataFolder, token] = process.argv.slice(2);

/** One perspective of a call: one socket after the other (`plans`), with one and the same handshake. */
function leg(perspective, channel, plans, { away_s = 0, cut = false } = {}) {
  return { perspective, channel, plans, away_s, cut, sent: [], silences: [] };
}

class Sent {
  frames = [];
  samples = 0;
  // {at: sample index, seconds}: where the client paused; without seconds where it was late by itself.
  pauses = [];

  audio() {
    return Buffer.concat(this.frames);
  }
}

class Case {
  settings = {};
  fields = {};
  legs = [];

  constructor(name, number) {
    this.name = name;
    this.contact = CONTACT_FIRST + BigInt(number);
    this.bus = BUS_FIRST + BigInt(number);
  }

  text(template) {
    const values = { TOKEN: token, WRONG: WRONG_TOKEN, PRIVATE, CONTACT: this.contact, BUS: this.bus };
    return template.replace(/@([A-Z]+)@/g, (all, name) => String(values[name] ?? all));
  }

  /** The init message as text: JSON.stringify could not write ids above 2^53. */
  init(changes = {}) {
    const fields = Object.entries({ ...USUAL_FIELDS, ...this.fields, ...changes });
    const present = fields.filter(([, raw]) => raw !== null);
    return this.text(`{${present.map(([name, raw]) => `"${name}":${raw}`).join(",")}}`);
  }

  folder() {
    return join(dataFolder, "contacts", String(this.bus), String(this.contact));
  }
}

/** The stanzas of cases.txt, with an id of its own for every contact. */
function readCases() {
  const cases = [];
  for (const line of readFileSync(new URL("cases.txt", import.meta.url), "utf8").split("\n")) {
    if (line.startsWith("[")) {
      cases.push(new Case(line.slice(1, line.lastIndexOf("]")), cases.length));
    } else if (line !== "" && !line.startsWith("#")) {
      const colon = line.indexOf(":");
      const [key, raw] = [line.slice(0, colon), line.slice(colon + 1)];
      const last = cases.at(-1);
      if (key === "contact" || key === "bus") last[key] = BigInt(raw.trim());
      else if (SETTINGS.includes(key)) last.settings[key] = raw.replace(/^ /, "");
      else if (key.startsWith("-")) last.fields[key.slice(1)] = null;
      else last.fields[key] = raw.trim();
    }
  }
  return cases;
}

/** Audio that is the same in every run and never holds the code for silence. */
function speech(name, samples) {
  const blocks = [];
  for (let at = 0; at * 32 < samples; at += 1) blocks.push(createHash("sha256").update(`${name} ${at}`).digest());
  return Buffer.concat(blocks).subarray(0, samples).map((sample) => (sample === 0xff ? 0 : sample));
}

function cutUp(audio, sizes) {
  let at = 0;
  return sizes.map((size) => audio.subarray(at, (at += size)));
}

const oddFrames = (name) => cutUp(speech(name, ODD_SIZES.reduce((sum, size) => sum + size)), ODD_SIZES);

/** Frames of 20 ms, in real time: a number in a plan is a pause in seconds. */
function paced(name, frames) {
  const all = cutUp(speech(name, frames * FRAME_SAMPLES), Array(frames).fill(FRAME_SAMPLES));
  return all.flatMap((frame) => [frame, FRAME_SAMPLES / SAMPLES_PER_SECOND]);
}

/** What a table cannot say: two sockets, pauses, holds, drops, and frames of every size. */
function specialCases(firstNumber) {
  const nothing = Buffer.alloc(0);
  const bytes = cutUp(speech("bytes", 400), Array(400).fill(1));
  const sevens = cutUp(speech("sevens", 700), Array(100).fill(7));
  const wanted = [
    ["TX and RX on two sockets", [
      leg('"TX"', "left", [oddFrames("both tx")]),
      leg('"RX"', "right", [oddFrames("both rx")]),
    ]],
    ["one byte at a time, with pings and empty frames between", [
      leg('"TX"', "left", [["ping", ...bytes, nothing, "ping", ...sevens, nothing, "ping"]]),
    ]],
    ["a pause of a second in real time", [
      leg('"TX"', "left", [[...paced("pause 1", 30), 1.0, ...paced("pause 2", 30)]]),
    ]],
    ["hold by close, then an identical handshake", [
      leg('"RX"', "right", [paced("hold 1", 30), paced("hold 2", 30)], { away_s: 0.8 }),
    ]],
    ["a connection cut without a close frame, then an identical handshake", [
      leg('"TX"', "left", [paced("drop 1", 30), paced("drop 2", 30)], { away_s: 0.8, cut: true }),
    ]],
    ["an init message in three fragments", [leg('"MIX"', "mono", [oddFrames("fragments")])], { fragmented: "yes" }],
  ];
  return wanted.map(([name, legs, settings], index) =>
    Object.assign(new Case(name, firstNumber + index), { legs, settings: settings ?? {} }),
  );
}

/** Fails with `problem` unless the promise settles in time. */
async function within(ms, problem, promise) {
  const late = new AbortController();
  const bell = sleep(ms, null, { signal: late.signal }).then(() => check(false, problem), () => {});
  try {
    return await Promise.race([promise, bell]);
  } finally {
    late.abort();
  }
}

/** An open socket with everything that came on it. */
class Socket {
  messages = [];
  #waiting = [];

  constructor(aCase) {
    const { token: where = "init", carries = "@TOKEN@", parameter = "token" } = aCase.settings;
    const carried = aCase.text(carries);
    const query = where === "query" ? `?tenant=a%20b&${parameter}=${encodeURIComponent(carried)}` : "";
    const headers = where === "header" ? { Authorization: carried } : {};
    this.ws = new WebSocket(`${baseUrl}/audio${query}`, { headers, handshakeTimeout: ANSWER_MS_MAX });
    this.opened = new Promise((resolve, reject) => this.ws.once("open", resolve).once("error", reject));
    this.closed = new Promise((resolve) => this.ws.once("close", (code) => resolve(code)));
    this.closed.then(() => this.#wake());
    this.ws.on("error", () => {});
    this.ws.on("message", (data, isBinary) => {
      this.messages.push({ text: data.toString("utf8"), isBinary });
      this.#wake();
    });
  }

  #wake() {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** The first message, which must be text. */
  async answer() {
    if (this.messages.length === 0) {
      const waiting = new Promise((resolve) => this.#waiting.push(resolve));
      await within(ANSWER_MS_MAX, "no answer", waiting);
    }
    check(this.messages.length > 0, "closed without an answer");
    check(!this.messages[0].isBinary, "the answer is binary");
    return this.messages[0].text;
  }

  send(data, options = {}) {
    return new Promise((resolve, reject) => {
      this.ws.send(data, options, (error) => (error ? reject(error) : resolve()));
    });
  }

  async ping() {
    const pong = new Promise((resolve) => this.ws.once("pong", resolve));
    this.ws.ping();
    await within(ANSWER_MS_MAX, "no pong", pong);
  }

  close(code) {
    this.ws.close(code);
    return within(ANSWER_MS_MAX, "the close was not answered", this.closed);
  }
}

/** Sends a plan against an absolute clock, so that one late frame makes no other late. */
async function sendAll(socket, plan, sent) {
  const now_s = () => performance.now() / 1000;
  let due = now_s();
  let last = due;
  for (const step of plan) {
    if (typeof step === "number") {
      due += step;
      if (step >= PAUSE_S_MIN) sent.pauses.push({ at: sent.samples, seconds: step });
      await sleep(Math.max(0, (due - now_s()) * 1000));
    } else if (step === "ping") {
      await socket.ping();
    } else {
      await socket.send(step, { binary: true });
      const now = now_s();
      if (now - Math.max(due, last) > PAUSE_S_MIN) {
        sent.pauses.push({ at: sent.samples, seconds: null });
        due = now;
      }
      last = now;
      // An empty frame is a sign of life and no audio.
      if (step.length > 0) sent.frames.push(step);
      sent.samples += step.length;
    }
  }
}

async function runLeg(aCase, aLeg) {
  for (const [number, plan] of aLeg.plans.entries()) {
    if (number > 0) await sleep(aLeg.away_s * 1000);
    const sent = new Sent();
    aLeg.sent.push(sent);
    const socket = new Socket(aCase);
    await within(ANSWER_MS_MAX, "no upgrade", socket.opened);
    const init = aCase.init({ streamPerspective: aLeg.perspective });
    const third = "fragmented" in aCase.settings ? Math.floor(init.length / 3) : 0;
    if (third > 0) {
      await socket.send(init.slice(0, third), { fin: false });
      await socket.send(init.slice(third, 2 * third), { fin: false });
    }
    await socket.send(init.slice(2 * third), { fin: true });
    const answer = await socket.answer();
    check(answer === CONNECTED, `answer ${JSON.stringify(answer)}`);
    await sendAll(socket, plan, sent);
    if (aLeg.cut && number + 1 < aLeg.plans.length) {
      socket.ws.terminate();
      continue;
    }
    const code = await socket.close(1000);
    check(socket.messages.length === 1, `${socket.messages.length - 1} messages beyond the answer`);
    check(code === 1000, `our close was answered with ${code}`);
  }
}

async function runGood(aCase) {
  if (aCase.legs.length === 0) {
    const perspective = { ...USUAL_FIELDS, ...aCase.fields }.streamPerspective;
    aCase.legs = [leg(perspective, aCase.settings.channel ?? "left", [oddFrames(aCase.name)])];
  }
  await Promise.all(aCase.legs.map((aLeg) => runLeg(aCase, aLeg)));
  const ids = { busNo: aCase.bus, contactId: aCase.contact };
  await checkRecording(aCase.folder(), aCase.settings, ids, aCase.legs);
}

function firstFrame(aCase) {
  switch (aCase.settings.first) {
    case "binary":
      return speech("binary first", 160);
    case "nothing":
      return null;
    case "large":
      return aCase.init({ appParams: JSON.stringify(PRIVATE.padEnd(70 * 1024, ".")) });
    default:
      return "frame" in aCase.settings ? aCase.text(aCase.settings.frame) : aCase.init();
  }
}

async function runRefused(aCase) {
  const { close, says = "", slow, first } = aCase.settings;
  const socket = new Socket(aCase);
  await within(ANSWER_MS_MAX, "no upgrade", socket.opened);
  const began = performance.now();
  const frame = firstFrame(aCase);
  if (frame !== null) await socket.send(frame);
  const answer = await socket.answer();
  const took_s = (performance.now() - began) / 1000;
  const code = await within(ANSWER_MS_MAX, "no close", socket.closed);
  check(socket.messages.length === 1, "more than one message");
  const message = JSON.parse(answer);
  check(message.command === "ERROR" && message.messageType === "COMMAND", "the answer is no ERROR");
  check(answer === JSON.stringify(message), "the answer has odd spacing");
  const fields = ["command", "messageType", "message", "parameters"];
  check(Object.keys(message).every((name) => fields.includes(name)), `fields ${Object.keys(message)}`);
  check(typeof message.message === "string" && message.message.length >= 8, `message ${message.message}`);
  for (const secret of [token, WRONG_TOKEN, PRIVATE, String(aCase.contact)]) {
    check(!answer.includes(secret), "the message repeats what was sent");
  }
  const names = message.message.toLowerCase().includes(says.toLowerCase());
  check(names, `message ${JSON.stringify(message.message)} does not name ${says}`);
  check(code === Number(close), `close code ${code}, message ${JSON.stringify(message.message)}`);
  if (slow) check(took_s >= REFUSAL_S_MIN, `refused after ${took_s.toFixed(2)} s already`);
  if (first === "nothing") {
    check(DEADLINE_S[0] <= took_s && took_s <= DEADLINE_S[1], `refused after ${took_s.toFixed(2)} s`);
  }
  check(!existsSync(aCase.folder()), "a refused socket left a recording");
}

async function runCase(aCase) {
  try {
    const run = "close" in aCase.settings ? runRefused(aCase) : runGood(aCase);
    await within(CASE_MS_MAX, "took too long", run);
    console.log(`ok    ${aCase.name}`);
    return true;
  } catch (error) {
    console.log(`FAIL  ${aCase.name}: ${error instanceof Wrong ? "" : `${error.name}: `}${error.message}`);
    return false;
  }
}

async function checkMetrics(cases) {
  const get = async (path) => {
    const answer = await fetch(baseUrl.replace(/^ws:/, "http:") + path);
    check(answer.status === 200, `${path} answers ${answer.status}`);
    return answer.text();
  };
  await get("/healthz");
  await get("/readyz");
  const text = await get("/metrics");
  for (const secret of [token, WRONG_TOKEN, PRIVATE]) check(!text.includes(secret), "the metrics hold what was sent");
  const good = cases.flatMap((aCase) => aCase.legs).flatMap((aLeg) => aLeg.sent);
  const expected = {
    earpiece_streams_live: 0,
    earpiece_stream_opens_total: good.length,
    earpiece_stream_closes_total: good.length,
    earpiece_stream_refusals_total: cases.filter((aCase) => "close" in aCase.settings).length,
    earpiece_audio_bytes_total: good.reduce((sum, sent) => sum + sent.samples, 0),
    earpiece_audio_frames_total: good.reduce((sum, sent) => sum + sent.frames.length, 0),
  };
  for (const [name, value] of Object.entries(expected)) {
    const lines = [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, "gm"))];
    check(lines.length > 0, `no metric ${name}`);
    const sum = lines.reduce((total, line) => total + Number(line[1]), 0);
    check(sum === value, `${name} is ${sum}, not ${value}`);
  }
}

const began = performance.now();
const cases = readCases();
cases.push(...specialCases(cases.length));
const results = await Promise.all(cases.map(runCase));
try {
  await checkMetrics(cases);
  console.log("ok    health, readiness and metrics agree with what was sent");
  results.push(true);
} catch (error) {
  console.log(`FAIL  health, readiness and metrics: ${error.message}`);
  results.push(false);
}
const failed = results.filter((passed) => !passed).length;
const took_s = ((performance.now() - began) / 1000).toFixed(1);
const version = require("ws/package.json").version;
console.log(`hook.mjs, ws ${version}: ${results.length - failed} ok, ${failed} failed, ${took_s} s`);
process.exit(failed > 0 ? 1 : 0);
