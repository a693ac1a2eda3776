#!/usr/bin/env python3
"""CXone's audio hook as spoken by a WebSocket client that nobody here wrote: Python's `websockets`.

    hook.py BASE_URL DATA_FOLDER TOKEN

BASE_URL is that of a running `earpiece serve --data DATA_FOLDER --audio-token TOKEN --quiet-period 2s`, which must
have served nobody before. Every init message of cases.txt is sent; every answer is compared byte for byte; µ-law is
streamed and must be found, byte for byte, in the recording once the quiet period is over. One line per case.
"""

import asyncio
import json
import pathlib
import random
import re
import sys
import time
import urllib.request
from dataclasses import dataclass, field

import websockets
from recording import SAMPLES_PER_SECOND, Wrong, check, check_recording
from websockets.asyncio.client import connect

CONNECTED = '{"command":"CONNECTED","messageType":"COMMAND","message":"BEGIN AUDIO STREAM"}'
FRAME_SAMPLES = 160
# The same in hook.mjs, but for the ids: both clients may share a server.
BUS_FIRST = 4600
CONTACT_FIRST = 46_000_000_000
WRONG_TOKEN = "wrong-token-of-hook-py"
PRIVATE = "spoken-words-of-hook-py"
ODD_SIZES = (8000, 333, 160, 7, 1, 1, 7, 160, 333, 8000)

ANSWER_S_MAX = 10.0
DEADLINE_S = (4.0, 9.0)
REFUSAL_S_MIN = 0.9
# A pause between two frames that is longer than this may show as silence in the recording.
PAUSE_S_MIN = 0.1

USUAL_FIELDS = {
    "authenticationToken": '"@TOKEN@"',
    "executionInfo": '{"contactId":@CONTACT@,"busNo":@BUS@,"requestId":7301,"actionType":"AGENTASSIST",'
    '"actionId":12,"scriptName":"Voice\\\\Inbound"}',
    "systemTelemetryData": '{"consumerProcessHost":"media-17","consumerProcessName":"MediaServer",'
    '"consumerProcessVersion":"24.3.1","inContactClusterAlias":"C31","inContactScriptEngineHost":"se-9",'
    '"consumerMetaData":{"note":"@PRIVATE@"}}',
    "streamPerspective": '"TX"',
    "streamsConfiguration": "null",
    "appParams": '{"queue":"billing","note":"@PRIVATE@"}',
    "appConfig": '{"language":"en-US"}',
}


SETTINGS = ("channel", "token", "carries", "parameter", "close", "says", "frame", "first", "slow", "unknown")


@dataclass
class Sent:
    """What one socket sent."""

    audio: bytes = b""
    frames: int = 0
    # (sample index, seconds): where the client paused; without seconds where it was late by itself.
    pauses: list = field(default_factory=list)


@dataclass
class Leg:
    """One perspective of a call: one socket after the other, with one and the same handshake."""

    perspective: str  # raw JSON, or "" when absent
    channel: str
    plans: list  # per socket: frames (bytes), pauses (seconds), "ping"
    away_s: float = 0.0
    cut: bool = False  # end the sockets but the last without a close frame
    sent: list = field(default_factory=list)
    # (position, samples) in the recording, found there afterwards.
    silences: list = field(default_factory=list)


@dataclass
class Case:
    name: str
    settings: dict
    fields: dict
    contact: int
    bus: int
    legs: list = field(default_factory=list)

    def text(self, template):
        return (
            template.replace("@TOKEN@", RUN.token)
            .replace("@WRONG@", WRONG_TOKEN)
            .replace("@PRIVATE@", PRIVATE)
            .replace("@CONTACT@", str(self.contact))
            .replace("@BUS@", str(self.bus))
        )

    def init(self, **changes):
        """The init message as text, so that every byte is ours and no JSON library tidies it up."""
        fields = {**USUAL_FIELDS, **self.fields, **changes}
        return self.text("{" + ",".join(f'"{name}":{raw}' for name, raw in fields.items() if raw is not None) + "}")

    def connect(self):
        where, carried = self.settings.get("token", "init"), self.text(self.settings.get("carries", "@TOKEN@"))
        query = f"?tenant=a%20b&{self.settings.get('parameter', 'token')}={carried}" if where == "query" else ""
        headers = {"Authorization": carried} if where == "header" else None
        return connect(
            f"{RUN.url}/audio{query}", additional_headers=headers, proxy=None, max_size=None, open_timeout=ANSWER_S_MAX
        )

    def folder(self):
        return RUN.data / "contacts" / str(self.bus) / str(self.contact)


@dataclass
class Run:
    url: str
    data: pathlib.Path
    token: str


RUN = None


def read_cases(path):
    """The stanzas of cases.txt, with an id of its own for every contact."""
    cases = []
    for line in path.read_text(encoding="utf-8").split("\n"):
        if line.startswith("["):
            number = len(cases)
            cases.append(Case(line[1 : line.rindex("]")], {}, {}, CONTACT_FIRST + number, BUS_FIRST + number))
        elif line and not line.startswith("#"):
            key, _, raw = line.partition(":")
            case = cases[-1]
            if key in ("contact", "bus"):
                setattr(case, key, int(raw))
            elif key in SETTINGS:
                case.settings[key] = raw.removeprefix(" ")
            elif key.startswith("-"):
                case.fields[key[1:]] = None
            else:
                case.fields[key] = raw.strip()
    return cases


def speech(name, samples):
    """Audio that is the same in every run and never holds the code for silence."""
    return random.Random(name).randbytes(samples).replace(b"\xff", b"\x00")


def cut_up(audio, sizes):
    frames, at = [], 0
    for size in sizes:
        frames.append(audio[at : at + size])
        at += size
    return frames


def odd_frames(name):
    return cut_up(speech(name, sum(ODD_SIZES)), ODD_SIZES)


def paced(name, frames):
    """Frames of 20 ms, in real time."""
    plan = []
    for frame in cut_up(speech(name, frames * FRAME_SAMPLES), [FRAME_SAMPLES] * frames):
        plan += [frame, FRAME_SAMPLES / SAMPLES_PER_SECOND]
    return plan


def special_cases(first_number):
    """What a table cannot say: two sockets, pauses, holds, drops, and frames of every size."""
    leg = Leg
    wanted = [
        ("TX and RX on two sockets", [
            leg('"TX"', "left", [odd_frames("both tx")]),
            leg('"RX"', "right", [odd_frames("both rx")]),
        ]),
        ("one byte at a time, with pings and empty frames between", [
            leg('"TX"', "left", [
                ["ping", *cut_up(speech("bytes", 400), [1] * 400), b"", "ping",
                 *cut_up(speech("sevens", 700), [7] * 100), b"", "ping"],
            ]),
        ]),
        ("a pause of a second in real time", [
            leg('"TX"', "left", [[*paced("pause 1", 30), 1.0, *paced("pause 2", 30)]]),
        ]),
        ("hold by close, then an identical handshake", [
            leg('"RX"', "right", [paced("hold 1", 30), paced("hold 2", 30)], away_s=0.8),
        ]),
        ("a connection cut without a close frame, then an identical handshake", [
            leg('"TX"', "left", [paced("drop 1", 30), paced("drop 2", 30)], away_s=0.8, cut=True),
        ]),
        ("an init message in three fragments", [leg('"MIX"', "mono", [odd_frames("fragments")])]),
    ]
    cases = []
    for number, (name, legs) in enumerate(wanted, start=first_number):
        settings = {"fragmented": "yes"} if "fragments" in name else {}
        cases.append(Case(name, settings, {}, CONTACT_FIRST + number, BUS_FIRST + number, legs))
    return cases


async def text_frame(ws):
    """The next message, which must be text in exactly one frame."""
    async with asyncio.timeout(ANSWER_S_MAX):
        parts = [part async for part in ws.recv_streaming()]
    check(len(parts) == 1, f"the answer came in {len(parts)} frames")
    check(isinstance(parts[0], str), "the answer is binary")
    return parts[0]


async def send_all(ws, plan, sent):
    """Sends a plan against an absolute clock, so that one late frame makes no other late."""
    loop = asyncio.get_running_loop()
    due = last = loop.time()
    for step in plan:
        if isinstance(step, float):
            due += step
            if step >= PAUSE_S_MIN:
                sent.pauses.append((len(sent.audio), step))
            await asyncio.sleep(max(0.0, due - loop.time()))
        elif step == "ping":
            async with asyncio.timeout(ANSWER_S_MAX):
                await (await ws.ping())
        else:
            await ws.send(step)
            now = loop.time()
            if now - max(due, last) > PAUSE_S_MIN:
                sent.pauses.append((len(sent.audio), None))
                due = now
            last = now
            sent.audio += step
            # An empty frame is a sign of life and no audio.
            sent.frames += 1 if step else 0


async def run_leg(case, leg):
    for number, plan in enumerate(leg.plans):
        if number:
            await asyncio.sleep(leg.away_s)
        sent = Sent()
        leg.sent.append(sent)
        init = case.init(streamPerspective=leg.perspective or None)
        async with case.connect() as ws:
            if "fragmented" in case.settings:
                third = len(init) // 3
                await ws.send([init[:third], init[third : 2 * third], init[2 * third :]])
            else:
                await ws.send(init)
            answer = await text_frame(ws)
            check(answer == CONNECTED, f"answer {answer!r}")
            await send_all(ws, plan, sent)
            if leg.cut and number + 1 < len(leg.plans):
                ws.transport.abort()
                continue
            await ws.close(1000)
            more = [message async for message in ws]
            check(not more, f"{len(more)} messages beyond the answer")
            check(ws.close_code == 1000, f"our close was answered with {ws.close_code}")


async def run_good(case):
    if not case.legs:
        perspective = {**USUAL_FIELDS, **case.fields}["streamPerspective"] or ""
        case.legs = [Leg(perspective, case.settings.get("channel", "left"), [odd_frames(case.name)])]
    async with asyncio.TaskGroup() as legs:
        for leg in case.legs:
            legs.create_task(run_leg(case, leg))


def first_frame(case):
    match case.settings.get("first"):
        case "binary":
            return speech("binary first", 160)
        case "nothing":
            return None
        case "large":
            return case.init(appParams=json.dumps(PRIVATE.ljust(70 * 1024, ".")))
    return case.text(case.settings["frame"]) if "frame" in case.settings else case.init()


async def run_refused(case):
    async with case.connect() as ws:
        began = time.monotonic()
        frame = first_frame(case)
        if frame is not None:
            await ws.send(frame)
        answer = await text_frame(ws)
        took_s = time.monotonic() - began
        async with asyncio.timeout(ANSWER_S_MAX):
            more = [message async for message in messages_until_close(ws)]
    check(not more, "more than one message")
    message = json.loads(answer)
    check(message.get("command") == "ERROR" and message.get("messageType") == "COMMAND", "the answer is no ERROR")
    check(answer == json.dumps(message, separators=(",", ":"), ensure_ascii=False), "the answer has odd spacing")
    check(set(message) <= {"command", "messageType", "message", "parameters"}, f"fields {sorted(message)}")
    public = message["message"]
    check(isinstance(public, str) and len(public) >= 8, f"message {public!r}")
    for secret in (RUN.token, WRONG_TOKEN, PRIVATE, str(case.contact)):
        check(secret not in answer, "the message repeats what was sent")
    says = case.settings.get("says", "")
    check(says.lower() in public.lower(), f"message {public!r} does not name {says!r}")
    check(ws.close_code == int(case.settings["close"]), f"close code {ws.close_code}, message {public!r}")
    if "slow" in case.settings:
        check(took_s >= REFUSAL_S_MIN, f"refused after {took_s:.2f} s already")
    if case.settings.get("first") == "nothing":
        check(DEADLINE_S[0] <= took_s <= DEADLINE_S[1], f"refused after {took_s:.2f} s")


async def messages_until_close(ws):
    try:
        while True:
            yield await ws.recv()
    except websockets.ConnectionClosed:
        return


async def run_case(case, results):
    try:
        async with asyncio.timeout(60):
            if "close" in case.settings:
                await run_refused(case)
                check(not case.folder().exists(), "a refused socket left a recording")
            else:
                await run_good(case)
                await check_recording(case.folder(), case)
        print(f"ok    {case.name}", flush=True)
        results.append(True)
    except Exception as error:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        kind = "" if isinstance(error, Wrong) else f"{type(error).__name__}: "
        print(f"FAIL  {case.name}: {kind}{error}", flush=True)
        results.append(False)


def get(path):
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(RUN.url.replace("ws://", "http://") + path, timeout=ANSWER_S_MAX) as answer:
        return answer.status, answer.read().decode()


def metric(text, name):
    """The sum over all label sets of one metric."""
    values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    check(values, f"no metric {name}")
    return sum(float(value) for value in values)


def check_metrics(cases):
    for path in ("/healthz", "/readyz"):
        check(get(path)[0] == 200, f"{path} is not well")
    text = get("/metrics")[1]
    for secret in (RUN.token, WRONG_TOKEN, PRIVATE):
        check(secret not in text, "the metrics hold what was sent")
    good = [sent for case in cases for leg in case.legs for sent in leg.sent]
    expected = {
        "earpiece_streams_live": 0,
        "earpiece_stream_opens_total": len(good),
        "earpiece_stream_closes_total": len(good),
        "earpiece_stream_refusals_total": sum("close" in case.settings for case in cases),
        "earpiece_audio_bytes_total": sum(len(sent.audio) for sent in good),
        "earpiece_audio_frames_total": sum(sent.frames for sent in good),
    }
    for name, value in expected.items():
        check(metric(text, name) == value, f"{name} is {metric(text, name):.0f}, not {value}")


async def main():
    began = time.monotonic()
    cases = read_cases(pathlib.Path(__file__).with_name("cases.txt"))
    cases += special_cases(len(cases))
    results = []
    async with asyncio.TaskGroup() as tasks:
        for case in cases:
            tasks.create_task(run_case(case, results))
    try:
        check_metrics(cases)
        print("ok    health, readiness and metrics agree with what was sent")
        results.append(True)
    except (Wrong, OSError) as error:
        print(f"FAIL  health, readiness and metrics: {error}")
        results.append(False)
    passed, failed = results.count(True), results.count(False)
    took_s = time.monotonic() - began
    print(f"hook.py, websockets {websockets.__version__}: {passed} ok, {failed} failed, {took_s:.1f} s")
    return 1 if failed or passed != len(cases) + 1 else 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    RUN = Run(sys.argv[1].rstrip("/"), pathlib.Path(sys.argv[2]), sys.argv[3])
    sys.exit(asyncio.run(main()))
