#!/usr/bin/env python3
"""A client of the WebSocket API that nobody here wrote: Python's `websockets`.

    rooms.py WEBSOCKET_URL (--lambda URL [--prefix NAME-] | --http URL) --assist URL [--emulator]

WEBSOCKET_URL is that of `earpiece gateway`, of a deployed stage, or of `earpiece serve` (/ws). Tokens are fetched, and
utterances and contact events sent, through Lambda's invoke API (--lambda) or over HTTP (--http); --assist is that of
assist_app.py, where those utterances end. `--emulator` leaves away what only API Gateway and `earpiece gateway` do: the
limits on frames, tokens in the query, the status of a refusal. The secrets come in the environment: AUDIO_TOKEN,
TEXT_TOKEN, CLIENT_SECRET.
"""

import argparse
import asyncio
import base64
import json
import os
import random
import sys
import urllib.parse
from concurrent.futures import ThreadPoolExecutor

import websockets
from house import CONNECTED, Cases, HttpDoor, LambdaDoor, call, check
from websockets.asyncio.client import connect

BUS, OTHER_BUS = 4595100, 4595101
ANSWER_S_MAX = 20.0
SILENCE_S = 0.5
WRONG = "wrong-token-of-rooms-py"
TEXT = "spoken-words-of-rooms-py"
FRAME_BYTES_MAX, MESSAGE_BYTES_MAX = 32 * 1024, 128 * 1024
PIECES, PIECE_SAMPLES = 40, 160
COPIES = 50


class Run:
    def __init__(self, url, door, assist_url, is_emulator):
        self.url, self.door, self.assist_url, self.is_emulator = url, door, assist_url, is_emulator
        self.audio_token, self.text_token = os.environ["AUDIO_TOKEN"], os.environ["TEXT_TOKEN"]
        self.secret = os.environ["CLIENT_SECRET"]
        self.contact_next = 47_000_000_000 + random.randrange(1_000_000) * 1000

    def contact(self):
        self.contact_next += 1
        return self.contact_next

    def issue(self, **form):
        """A token of the token server."""
        fields = {"grant_type": "client_credentials"} | {name: str(value) for name, value in form.items()}
        basic = base64.b64encode(f"studio:{self.secret}".encode()).decode()
        headers = {"content-type": "application/x-www-form-urlencoded", "authorization": f"Basic {basic}"}
        status, _, body = self.door.ask("POST", "/oauth/token", headers, urllib.parse.urlencode(fields))
        check(status == 200, f"no token: status {status}, {body}")
        return json.loads(body)["access_token"]

    def post(self, path, document):
        """An utterance or a contact event."""
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.text_token}"}
        status, _, body = self.door.ask("POST", f"{path}?note={TEXT}", headers, json.dumps(document))
        check(status == 200, f"{path}: status {status}, {body}")
        return json.loads(body)

    def socket(self, token=None, header=None):
        if self.is_emulator and token:
            # It asks for this header where the template, as AWS allows, names no identity source at all.
            token, header = None, token
        query = f"?{urllib.parse.urlencode({'token': token, 'note': TEXT})}" if token else ""
        headers = {"Authorization": f"Bearer {header}"} if header else None
        return connect(self.url + query, additional_headers=headers, proxy=None, open_timeout=ANSWER_S_MAX, max_size=None)

    def init(self, contact, token=None, bus=BUS, perspective="TX"):
        fields = {
            "executionInfo": {"contactId": contact, "busNo": bus, "requestId": 7301, "actionType": "AGENTASSIST",
                              "actionId": 12, "scriptName": "Voice\\Inbound"},
            "streamPerspective": perspective,
            "appParams": {"note": TEXT},
        }
        return json.dumps(fields | ({"authenticationToken": token} if token else {}))

    # ---- the hook's language ----

    async def shakes_hands(self):
        contact = self.contact()
        bound = self.issue(scope="audio", bus_no=BUS, contact_id=contact)
        for token, header, in_init, perspective in [
            (self.audio_token, None, None, "TX"),
            (None, self.audio_token, None, "RX"),
            (bound, None, None, "TX"),
            (self.audio_token, None, bound, "RX"),
        ]:
            async with self.socket(token, header) as ws:
                await ws.send(self.init(contact, in_init, perspective=perspective))
                check(await text(ws) == CONNECTED, "the answer is not CONNECTED")

    async def acknowledges_every_sample_once(self):
        async with self.socket(self.audio_token) as ws:
            await ws.send(self.init(self.contact()))
            check(await text(ws) == CONNECTED, "the answer is not CONNECTED")
            # Not waited for in between: API Gateway gives no order, so positions are told and not taken for granted.
            for _ in range(PIECES):
                await ws.send(base64.b64encode(random.randbytes(PIECE_SAMPLES)).decode())
            acknowledged = [json.loads(await text(ws)) for _ in range(PIECES)]
        check(all(each["command"] == "MESSAGE" for each in acknowledged), f"answers {acknowledged[:3]}")
        places = sorted(each["parameters"]["firstSample"] for each in acknowledged)
        check(places == [PIECE_SAMPLES * number for number in range(PIECES)], f"places {places}")

    async def refuses_audio_before_init(self):
        async with self.socket(self.audio_token) as ws:
            await ws.send(base64.b64encode(bytes(PIECE_SAMPLES)).decode())
            await is_error(ws, "init")

    async def refuses_bad_init(self):
        for message, word in [
            (self.init("no number"), "contactId"),
            ('{"streamPerspective":"TX"}', "executionInfo"),
            ('{"executionInfo":', None),
        ]:
            async with self.socket(self.audio_token) as ws:
                await ws.send(message)
                await is_error(ws, word)

    # ---- who may ----

    async def refuses_strangers(self):
        for token in (None, WRONG, self.issue(scope="utterances")):
            try:
                async with self.socket(token) as ws:
                    await ws.send(self.init(self.contact()))
                    # An API without an authorizer lets the socket in, and refuses it here.
                    await is_error(ws, None)
            except websockets.InvalidStatus as refused:
                # An authorizer that fails with "Unauthorized" means 401; the emulator makes 500 of it.
                allowed = (401, 403, 500) if self.is_emulator else (401, 403)
                check(refused.response.status_code in allowed, f"status {refused.response.status_code}")
            except websockets.ConnectionClosed:
                check(self.is_emulator, "closed without a reason")

    async def refuses_other_contacts(self):
        contact = self.contact()
        bound = self.issue(scope="audio listen", bus_no=BUS, contact_id=contact)
        for init in (self.init(self.contact()), self.init(contact, bus=OTHER_BUS)):
            async with self.socket(bound) as ws:
                await ws.send(init)
                await is_error(ws, None)
        async with self.socket(bound) as ws:
            await ws.send(json.dumps({"action": "subscribe", "busNo": BUS, "contactId": self.contact()}))
            await is_error(ws, None)

    async def takes_one_time_tokens_once(self):
        contact = self.contact()
        token = self.issue(scope="audio", bus_no=BUS, contact_id=contact, one_time="true")
        async with self.socket(token) as ws:
            await ws.send(self.init(contact))
            check(await text(ws) == CONNECTED, "the first use is refused")
        try:
            async with self.socket(token) as ws:
                await ws.send(self.init(contact))
                await is_error(ws, None)
        except (websockets.InvalidStatus, websockets.ConnectionClosed):
            pass

    # ---- pages ----

    async def tells_pages_what_happens(self):
        contact = self.contact()
        page = self.issue(scope="listen", bus_no=BUS, contact_id=contact)
        path = f"/contacts/{BUS}/{contact}/events"
        async with self.socket(page) as ws:
            await ws.send(json.dumps({"action": "subscribe", "busNo": BUS, "contactId": contact}))
            answer = json.loads(await text(ws))
            check(answer == {"type": "subscribed", "busNo": BUS, "contactId": contact}, f"answer {answer}")
            await asyncio.to_thread(self.post, path, {"event": "hold", "agentId": "agent-12"})
            heard = json.loads(await text(ws))
            check((heard["type"], heard["event"], heard["contactId"]) == ("script", "hold", contact), f"heard {heard}")
            said = {"contactId": contact, "busNo": BUS, "participantId": "patron", "messageBody": TEXT}
            await asyncio.to_thread(self.post, "/agent_assist_text_webhooks/utterance", said)
            heard = json.loads(await text(ws))
            check(heard["type"] == "app" and heard["contactId"] == contact, f"heard {heard}")
            await asyncio.to_thread(self.post, f"/contacts/{BUS}/{self.contact()}/events", {"event": "hold"})
            await is_silent(ws)
            await ws.send(json.dumps({"action": "unsubscribe", "busNo": BUS, "contactId": contact}))
            check(json.loads(await text(ws))["type"] == "unsubscribed", "no answer to unsubscribe")
            await asyncio.to_thread(self.post, path, {"event": "resume"})
            await is_silent(ws)

    # ---- utterances ----

    async def hands_one_of_many_copies_on(self):
        contact = self.contact()
        said = {"contactId": contact, "busNo": BUS, "participantId": "agent", "messageBody": TEXT}
        with ThreadPoolExecutor(COPIES) as pool:
            answers = list(pool.map(lambda _: self.post("/agent_assist_text_webhooks/utterance", said), range(COPIES)))
        statuses = sorted(answer["status"] for answer in answers)
        check(statuses == ["accepted"] + ["duplicate"] * (COPIES - 1), f"answers {statuses}")
        check(len({answer["requestId"] for answer in answers}) == 1, "the copies have several request ids")
        heard = json.loads(call("GET", f"{self.assist_url}/heard")[2])
        times = sum(each["utterance"]["contact"]["contactId"] == contact for each in heard)
        check(times == 1, f"the app heard it {times} times")

    # ---- limits ----

    async def closes_on_binary_frames(self):
        await self.is_closed(1003, [bytes(160)])

    async def closes_on_large_frames(self):
        await self.is_closed(1009, ["A" * (FRAME_BYTES_MAX + 4)])

    async def closes_on_large_messages(self):
        fragments = ["A" * (FRAME_BYTES_MAX - 8)] * (MESSAGE_BYTES_MAX // FRAME_BYTES_MAX + 1)
        await self.is_closed(1009, [fragments])

    async def is_closed(self, code, messages):
        async with self.socket(self.audio_token) as ws:
            try:
                for message in messages:
                    await ws.send(message)
                async with asyncio.timeout(ANSWER_S_MAX):
                    while True:
                        await ws.recv()
            except websockets.ConnectionClosed:
                check(ws.close_code == code, f"close code {ws.close_code}, not {code}")


async def text(ws):
    """The next message, which must be text."""
    async with asyncio.timeout(ANSWER_S_MAX):
        message = await ws.recv()
    check(isinstance(message, str), "the answer is binary")
    return message


async def is_error(ws, word):
    """The next message is an ERROR that names what is wrong and repeats nothing."""
    answer = json.loads(await text(ws))
    check(answer["command"] == "ERROR" and len(answer["message"]) >= 8, f"answer {answer}")
    check(word is None or word.lower() in answer["message"].lower(), f"the message {answer['message']!r} lacks {word!r}")
    for secret in (os.environ["AUDIO_TOKEN"], WRONG, TEXT):
        check(secret not in json.dumps(answer), "the answer repeats what was sent")


async def is_silent(ws):
    """Nothing comes for a while. A frame that comes late would be seen by the next case as its own answer."""
    try:
        async with asyncio.timeout(SILENCE_S):
            message = await ws.recv()
    except TimeoutError:
        return
    check(False, f"heard {message}, which is not for this page")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    door = parser.add_mutually_exclusive_group(required=True)
    door.add_argument("--lambda", dest="lambda_url")
    door.add_argument("--http", dest="http_url")
    parser.add_argument("--assist", dest="assist_url", required=True)
    parser.add_argument("--prefix", default="")
    parser.add_argument("--emulator", action="store_true")
    asked = parser.parse_args()
    door = LambdaDoor(asked.lambda_url, asked.prefix) if asked.lambda_url else HttpDoor(asked.http_url)
    run, cases = Run(asked.url, door, asked.assist_url, asked.emulator), Cases("rooms.py")
    wanted = [
        ("shakes hands by every way that a token may take", run.shakes_hands),
        (f"acknowledges {PIECES} pieces at once, every sample once", run.acknowledges_every_sample_once),
        ("refuses audio before the init message", run.refuses_audio_before_init),
        ("refuses init messages that cannot be read", run.refuses_bad_init),
        ("refuses who has no token, a wrong one, or one for something else", run.refuses_strangers),
        ("refuses a token of another contact or business unit", run.refuses_other_contacts),
        ("takes a one-time token once", run.takes_one_time_tokens_once),
        ("tells a page what happens to its contact, and to no other", run.tells_pages_what_happens),
        (f"hands one of {COPIES} copies of an utterance on", run.hands_one_of_many_copies_on),
    ]
    if not asked.emulator:
        wanted += [
            ("closes with 1003 on a binary frame", run.closes_on_binary_frames),
            ("closes with 1009 on a frame above 32 KB", run.closes_on_large_frames),
            ("closes with 1009 on a message above 128 KB", run.closes_on_large_messages),
        ]
    for name, case in wanted:
        cases.run(name, lambda case=case: asyncio.run(asyncio.wait_for(case(), 60)))
    return cases.verdict(len(wanted))


if __name__ == "__main__":
    sys.exit(main())
