// What a call left on disk, judged by what was sent: the WAV file read by hand, and the ledger.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";

export const SAMPLES_PER_SECOND = 8000;
const SILENCE = 0xff;
const LABELS = { left: "TX", right: "RX" };
const FINISH_MS_MAX = 25_000;
const GAP_TOLERANCE_S = 0.1;

/** What a case found to be wrong. */
export class Wrong extends Error {}

export function check(condition, problem) {
  if (!condition) throw new Wrong(problem);
}

/** Channels and data of a WAV file; refuses all but G.711 µ-law at 8000 Hz. */
function readWav(path) {
  const raw = readFileSync(path);
  const fourcc = (at) => raw.toString("latin1", at, at + 4);
  check(fourcc(0) === "RIFF" && fourcc(8) === "WAVE", "no RIFF WAVE");
  check(raw.readUInt32LE(4) === raw.length - 8, "the RIFF size is wrong");
  const chunks = new Map();
  for (let at = 12; at + 8 <= raw.length; ) {
    const size = raw.readUInt32LE(at + 4);
    check(at + 8 + size <= raw.length, "a chunk is cut short");
    if (!chunks.has(fourcc(at))) chunks.set(fourcc(at), raw.subarray(at + 8, at + 8 + size));
    at += 8 + size + (size % 2);
  }
  const [form, data] = [chunks.get("fmt "), chunks.get("data")];
  check(form && data, `chunks ${[...chunks.keys()]}`);
  const channels = form.readUInt16LE(2);
  const [tag, rate, bytesPerSecond] = [form.readUInt16LE(0), form.readUInt32LE(4), form.readUInt32LE(8)];
  const found = [tag, rate, bytesPerSecond, form.readUInt16LE(12), form.readUInt16LE(14)];
  const wanted = [7, SAMPLES_PER_SECOND, SAMPLES_PER_SECOND * channels, channels, 8];
  check(isDeepStrictEqual(found, wanted), `tag, rate, bytes per second, align, bits are ${found} and not ${wanted}`);
  return { channels, data };
}

function channelOf(data, channels, name) {
  const side = channels === 2 && name === "right" ? 1 : 0;
  const samples = Buffer.alloc(data.length / channels);
  for (let at = 0; at < samples.length; at += 1) samples[at] = data[at * channels + side];
  return samples;
}

/** Every silence ({before: samples of speech before it, position, length}), and the speech without them. */
function silences(channel) {
  const found = [];
  const speech = [];
  for (const [at, sample] of channel.entries()) {
    if (sample !== SILENCE) {
      speech.push(sample);
    } else if (at > 0 && channel[at - 1] === SILENCE) {
      found.at(-1).length += 1;
    } else {
      found.push({ before: speech.length, position: at, length: 1 });
    }
  }
  return { found, speech: Buffer.from(speech) };
}

/** All bytes that were sent, in order, and silence only where the client was silent. Gives the gaps. */
function checkChannel(leg, channel) {
  const everything = Buffer.concat(leg.sent.map((sent) => sent.audio()));
  const { found, speech } = silences(channel);
  check(speech.equals(everything), `${leg.channel}: ${speech.length} bytes recorded, ${everything.length} sent`);
  const allowed = new Map([[0, null], [everything.length, null]]);
  let base = 0;
  for (const [number, sent] of leg.sent.entries()) {
    if (number > 0) allowed.set(base, leg.away_s);
    for (const pause of sent.pauses) allowed.set(base + pause.at, pause.seconds);
    base += sent.samples;
  }
  for (const { before, length } of found) {
    check(allowed.has(before), `${leg.channel}: ${length} samples of silence after sample ${before}, unasked for`);
    const pause_s = allowed.get(before);
    if (pause_s !== null && before > 0 && before < everything.length) {
      // A hold also takes the time of the two handshakes.
      const slack_s = leg.sent.length === 1 ? GAP_TOLERANCE_S : 3 * GAP_TOLERANCE_S;
      check(Math.abs(length / SAMPLES_PER_SECOND - pause_s) < slack_s, `${leg.channel}: a gap of ${length} samples`);
    }
  }
  for (const [at, seconds] of allowed) {
    if (seconds === null || seconds <= 0.5) continue;
    check(found.some(({ before }) => before === at), `${leg.channel}: no silence for a pause of ${seconds} s`);
  }
  return found.filter(({ before }) => before < everything.length).map(({ position, length }) => [position, length]);
}

/** What the ledger must call a leg: the word of a known perspective, an unknown one as it was sent. */
function perspectiveOf(leg) {
  if (leg.channel in LABELS) return LABELS[leg.channel];
  const raw = JSON.parse(leg.perspective ?? "null");
  const one = Array.isArray(raw) && raw.length === 1 ? raw[0] : raw;
  return ["MIX", "MX", "2"].includes(String(one).toUpperCase()) ? "MIX" : raw;
}

function checkLedger(settings, ids, legs, text, channels, data) {
  const ledger = JSON.parse(text);
  // JSON.parse rounds ids above 2^53, so the digits are looked for in the text.
  for (const [name, digits] of Object.entries(ids)) {
    check(new RegExp(`"${name}"\\s*:\\s*${digits}\\b`).test(text), `the ledger does not name ${name} ${digits}`);
  }
  check(ledger.samples * channels === data.length, "the ledger's length is not the recording's");
  check(ledger.channels === { 1: "mono", 2: "stereo" }[channels], `ledger channels ${ledger.channels}`);
  for (const trouble of ["lost", "overlaps", "unwritten"]) {
    check(ledger[trouble].length === 0, `${trouble} in the ledger: ${JSON.stringify(ledger[trouble])}`);
  }
  const sockets = legs.reduce((count, leg) => count + leg.plans.length, 0);
  check(ledger.streams.length === sockets, `${ledger.streams.length} streams`);
  for (const leg of legs) {
    const known = perspectiveOf(leg);
    const isIts = (entry) => isDeepStrictEqual(entry.perspective, known);
    const streams = ledger.streams.filter(isIts);
    check(streams.length === leg.plans.length, `${streams.length} streams of perspective ${JSON.stringify(known)}`);
    const channel = channelOf(data, channels, leg.channel);
    for (const [number, stream] of streams.entries()) {
      checkStream(leg, number, stream);
      checkPieces(ledger, stream, leg.channel, leg.sent[number], channel);
    }
    checkGaps(leg, ledger.gaps.filter(isIts));
    const unknown = Number(settings.unknown ?? 0);
    check(!unknown || streams[0].unknownFields === unknown, `${streams[0].unknownFields} unknown fields counted`);
  }
}

function checkStream(leg, number, stream) {
  const sent = leg.sent[number];
  check(stream.samples === sent.samples, `stream ${number}: ${stream.samples} samples in the ledger`);
  check(stream.frames === sent.frames.length, `stream ${number}: ${stream.frames} frames, ${sent.frames.length} sent`);
  check(stream.generation === number + 1, `stream ${number}: generation ${stream.generation}`);
  const reason = leg.cut && number + 1 < leg.plans.length ? "peer_vanished" : "peer_closed";
  check(stream.closed.reason === reason, `stream ${number}: closed by ${stream.closed.reason}`);
}

/** The ledger's gaps are the silences of the recording, each for its reason. */
function checkGaps(leg, gaps) {
  const listed = gaps.map((gap) => [gap.position, gap.samples]);
  const same = isDeepStrictEqual(listed, leg.silences);
  check(same, `${leg.channel}: gaps ${JSON.stringify(listed)} in the ledger, ${JSON.stringify(leg.silences)} recorded`);
  const between = leg.sent.length === 1 ? "silence" : leg.cut ? "dropped" : "closed";
  for (const gap of gaps) {
    const expected = gap.position === 0 ? "not_yet_connected" : between;
    check(gap.reason === expected, `${leg.channel}: a gap because of ${gap.reason}, not ${expected}`);
  }
}

/** The ledger says where each sample lies: there it must be. */
function checkPieces(ledger, stream, name, sent, channel) {
  const audio = sent.audio();
  const pieces = ledger.pieces.filter((piece) => piece.stream === stream.stream);
  const total = pieces.reduce((sum, piece) => sum + piece.samples, 0);
  check(total === audio.length, "the pieces do not add up");
  for (const { position, firstSample, samples } of pieces) {
    const there = channel.subarray(position, position + samples);
    const same = there.equals(audio.subarray(firstSample, firstSample + samples));
    check(same, `${name}: position ${position} does not hold sample ${firstSample}`);
  }
}

/** Waits for the contact to be finished, then compares what is on disk with what was sent. */
export async function checkRecording(folder, settings, ids, legs) {
  const [wav, ledger] = [join(folder, "recording.wav"), join(folder, "ledger.json")];
  const until = Date.now() + FINISH_MS_MAX;
  while (!existsSync(wav) || !existsSync(ledger)) {
    check(Date.now() < until, `no recording and ledger within ${FINISH_MS_MAX} ms`);
    await sleep(100);
  }
  const { channels, data } = readWav(wav);
  const mono = legs.some((leg) => leg.channel === "mono");
  check(channels === (mono ? 1 : 2), `${channels} channels`);
  for (const leg of legs) leg.silences = checkChannel(leg, channelOf(data, channels, leg.channel));
  for (const name of Object.keys(LABELS)) {
    if (mono || legs.some((leg) => leg.channel === name)) continue;
    const isSilent = channelOf(data, channels, name).every((sample) => sample === SILENCE);
    check(isSilent, `the ${name} channel is not silent`);
  }
  checkLedger(settings, ids, legs, readFileSync(ledger, "utf8"), channels, data);
}
