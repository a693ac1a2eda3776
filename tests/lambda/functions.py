#!/usr/bin/env python3
"""Every Lambda function, invoked with the events that AWS sends it.

    functions.py LAMBDA_URL ASSIST_URL CONNECTIONS_PORT AWS_URL BUCKET

LAMBDA_URL is that of `cargo lambda watch`, ASSIST_URL that of assist_app.py, AWS_URL that of the local AWS with BUCKET
for the recordings. This script is the `@connections` API at CONNECTIONS_PORT, where the functions send what is for a
socket. The tokens come in the environment: TEXT_TOKEN, AUDIO_TOKEN, CLIENT_SECRET, ASSIST_AUTHORIZATION.
"""

import base64
import json
import os
import random
import re
import sys
import threading
import time
import urllib.parse
import uuid
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from house import CONNECTED, Cases, Functions, call, check, event

CLIENT = "studio"
BUS, OTHER_BUS = 4595000, 4595001
HOOK = "/agent_assist_text_webhooks/utterance"
WRONG = "wrong-token-of-functions-py"
TEXT = "spoken-words-of-functions-py"
COPIES = 20
REDELIVERY_S_MAX = 60.0
FINISH_S_MAX = 30.0


class Connections(BaseHTTPRequestHandler):
    """The `@connections` API: keeps what was posted, and says 410 for whoever was told to be gone."""

    protocol_version = "HTTP/1.1"
    posted, gone, closed = {}, set(), set()
    changed = threading.Condition()

    def name(self):
        return urllib.parse.unquote(self.path.partition("/@connections/")[2])

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        with self.changed:
            is_gone = self.name() in self.gone | self.closed
            if not is_gone:
                self.posted.setdefault(self.name(), []).append(body)
                self.changed.notify_all()
        self.answer(410 if is_gone else 200)

    def do_DELETE(self):
        with self.changed:
            self.closed.add(self.name())
        self.answer(204)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Says nothing: the requests hold what was said."""

    @classmethod
    def wait(cls, connection, count, seconds_max=5.0):
        """What was posted to a connection, once there are so many frames."""
        with cls.changed:
            cls.changed.wait_for(lambda: len(cls.posted.get(connection, [])) >= count, seconds_max)
            return list(cls.posted.get(connection, []))


class Run:
    """One run against one set of servers."""

    def __init__(self, lambda_url, assist_url, aws_url, bucket):
        self.functions, self.lambda_url = Functions(lambda_url), lambda_url
        self.assist_url, self.aws_url, self.bucket = assist_url, aws_url, bucket
        self.text_token, self.audio_token = os.environ["TEXT_TOKEN"], os.environ["AUDIO_TOKEN"]
        self.secret, self.app_authorization = os.environ["CLIENT_SECRET"], os.environ["ASSIST_AUTHORIZATION"]
        self.contact_next = 46_000_000_000 + random.randrange(1_000_000) * 1000

    def contact(self):
        self.contact_next += 1
        return self.contact_next

    def heard(self, contact):
        """What the assist app was given for a contact."""
        everything = json.loads(call("GET", f"{self.assist_url}/heard")[2])
        return [each for each in everything if each["utterance"]["contact"]["contactId"] == contact]

    # ---- text hook ----

    def utterance(self, contact, text=TEXT, token=None, headers=None, bus=BUS, **changes):
        """The text hook's event, its body changed; a value of None takes a field or a header away."""
        payload = event("text-hook", token=token or self.text_token, text=text)
        body = {**json.loads(payload["body"]), "contactId": contact, "busNo": bus, **changes}
        payload["body"] = json.dumps({key: value for key, value in body.items() if value is not None})
        payload["headers"] |= {"content-length": str(len(payload["body"]))} | (headers or {})
        payload["headers"] = {key: value for key, value in payload["headers"].items() if value is not None}
        return payload

    def say(self, *arguments, **changes):
        return self.functions.http("text-hook", self.utterance(*arguments, **changes))

    def accepts_an_utterance_and_hands_it_over_once(self):
        contact = self.contact()
        status, _, body = self.say(contact)
        check(status == 200, f"status {status}: {body}")
        check(body["status"] == "accepted" and body["contactId"] == contact and body["requestId"], f"body {body}")
        heard = self.heard(contact)
        check(len(heard) == 1, f"the app heard it {len(heard)} times")
        check(heard[0]["authorization"] == self.app_authorization, "the app got another authorization")
        check(heard[0]["idempotencyKey"] == body["requestId"], "the idempotency key is not the request's id")
        check(heard[0]["utterance"]["text"] == TEXT, "the app heard something else")
        again = self.say(contact)[2]
        check(again["status"] == "duplicate" and again["requestId"] == body["requestId"], f"a repeat gets {again}")
        check(len(self.heard(contact)) == 1, "a repeat was handed over")

    def hands_one_of_many_copies_over(self):
        contact = self.contact()
        with ThreadPoolExecutor(COPIES) as pool:
            answers = list(pool.map(lambda _: self.say(contact), range(COPIES)))
        statuses = [body["status"] for status, _, body in answers if status == 200]
        check(sorted(statuses) == ["accepted"] + ["duplicate"] * (COPIES - 1), f"answers {statuses}")
        check(len({body["requestId"] for _, _, body in answers}) == 1, "the copies have several request ids")
        check(len(self.heard(contact)) == 1, "the app heard more than one copy")

    def takes_the_token_from_the_body(self):
        contact = self.contact()
        headers = {"authorization": None}
        status, _, body = self.say(contact, headers=headers, authorizationHeader=f"Bearer {self.text_token}")
        check(status == 200, f"status {status}: {body}")

    def takes_a_base64_body(self):
        payload = self.utterance(self.contact())
        payload |= {"body": base64.b64encode(payload["body"].encode()).decode(), "isBase64Encoded": True}
        check(self.functions.http("text-hook", payload)[0] == 200, "a body in base64 is refused")

    def refuses(self, expected, field, payload, function="text-hook"):
        status, headers, body = self.functions.http(function, payload)
        check(status == expected, f"status {status}, not {expected}: {body}")
        check(isinstance(body.get("error"), dict) and body["error"].get("message"), f"body {body}")
        check(field is None or body["error"].get("field") == field, f"the field is {body['error'].get('field')}")
        check(status not in (429, 503) or "retry-after" in headers, "no Retry-After")
        for secret in (self.text_token, WRONG, TEXT):
            check(secret not in json.dumps(body), "the answer repeats what was sent")

    def refuses_what_it_cannot_take(self):
        contact, message = self.contact(), {"contactId": None}
        self.refuses(401, None, self.utterance(contact, headers={"authorization": None}))
        self.refuses(401, None, self.utterance(contact, token=WRONG))
        self.refuses(400, "contactId", self.utterance(contact, **message))
        self.refuses(400, "busNo", self.utterance(contact, busNo="many"))
        self.refuses(400, "participantId", self.utterance(contact, participantId="parrot"))
        self.refuses(415, None, self.utterance(contact, headers={"content-type": "text/plain"}))
        self.refuses(413, None, self.utterance(contact, text=TEXT + "." * 256 * 1024))
        broken = self.utterance(contact)
        broken["body"] = broken["body"][:-1]
        self.refuses(400, None, broken)
        listing = self.utterance(contact)
        listing["requestContext"]["http"]["method"] = "GET"
        self.refuses(405, None, listing)
        check(not self.heard(contact), "the app heard what was refused")

    def refuses_tokens_of_others(self):
        contact = self.contact()
        ours = self.issue(bus_no=BUS, contact_id=contact, scope="utterances")["access_token"]
        check(self.say(contact, token=ours)[0] == 200, "a token for the contact is refused")
        self.refuses(403, None, self.utterance(self.contact(), token=ours))
        self.refuses(403, None, self.utterance(contact, token=ours, bus=OTHER_BUS))
        events_only = self.issue(scope="events")["access_token"]
        self.refuses(403, None, self.utterance(contact, token=events_only))
        head, claims, signature = ours.split(".")
        unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
        for forged in (f"{unsigned}.{claims}.", f"{unsigned}.{claims}.{signature}", f"{head}.{claims}.{signature[::-1]}"):
            self.refuses(401, None, self.utterance(contact, token=forged))

    def one_time_tokens_are_good_once(self):
        contact = self.contact()
        token = self.issue(scope="utterances", one_time="true")["access_token"]
        check(self.say(contact, token=token, text="first")[0] == 200, "the first use is refused")
        self.refuses(401, None, self.utterance(contact, token=token, text="second"))

    def keeps_what_the_app_cannot_take_now(self):
        """Both are said at once: the pause before the second delivery is long."""
        later, never = self.contact(), self.contact()
        for contact, text in ((later, f"later: {TEXT}"), (never, f"never: {TEXT}")):
            status, _, body = self.say(contact, text=text)
            check(status == 200 and body["status"] == "accepted", f"status {status}: {body}")
        until = time.monotonic() + REDELIVERY_S_MAX
        while len(self.heard(later)) < 2 and time.monotonic() < until:
            self.functions.invoke("reaper", event("reaper"))
            time.sleep(0.5)
        heard = self.heard(later)
        check([each["answered"] for each in heard] == [503, 200], f"answers {[each['answered'] for each in heard]}")
        check(len({each["idempotencyKey"] for each in heard}) == 1, "the second delivery has another key")
        self.functions.invoke("reaper", event("reaper"))
        check(len(self.heard(later)) == 2, "what was delivered was delivered again")
        check(len(self.heard(never)) == 1, "what the app can never take was tried again")

    # ---- tokens ----

    def token(self, secret=None, grant="client_credentials", headers=None, **form):
        basic = base64.b64encode(f"{CLIENT}:{secret or self.secret}".encode()).decode()
        payload = event("token", basic=basic)
        fields = {"grant_type": grant} | {name: str(value) for name, value in form.items()}
        payload["body"] = base64.b64encode(urllib.parse.urlencode(fields).encode()).decode()
        payload["headers"] |= headers or {}
        return self.functions.http("token", payload)

    def issue(self, **form):
        status, headers, body = self.token(**form)
        check(status == 200, f"no token: status {status}, {body}")
        check(body.get("token_type", "").lower() == "bearer" and body.get("expires_in", 0) > 0, "not as RFC 6749 says")
        check("no-store" in headers.get("cache-control", ""), "a token may be kept by caches")
        return body

    def issues_tokens_as_rfc_6749_says(self):
        body = self.issue(scope="utterances events")
        check(sorted(body["scope"].split()) == ["events", "utterances"], f"scope {body['scope']}")
        head = json.loads(base64.urlsafe_b64decode(body["access_token"].split(".")[0] + "=="))
        check(head["alg"] == "ES256", f"algorithm {head['alg']}")
        status, headers, keys = self.functions.http("token", event("jwks"))
        check(status == 200 and "max-age" in headers.get("cache-control", ""), f"status {status}, headers {headers}")
        check(head["kid"] in [key["kid"] for key in keys["keys"]], "the key is not published")
        check(all("d" not in key for key in keys["keys"]), "a private key is published")
        metadata = event("jwks")
        for place in (metadata, metadata["requestContext"]["http"]):
            place["rawPath" if place is metadata else "path"] = "/.well-known/oauth-authorization-server"
        status, _, body = self.functions.http("token", metadata)
        check(status == 200 and {"issuer", "token_endpoint", "jwks_uri"} <= set(body), f"status {status}: {body}")

    def refuses_tokens_as_rfc_6749_says(self):
        for expected, error, answer in [
            (401, "invalid_client", self.token(secret=WRONG)),
            (400, "unsupported_grant_type", self.token(grant="password")),
            (400, "invalid_scope", self.token(scope="utterances everything")),
            (400, "invalid_request", self.token(client_id=CLIENT, client_secret=self.secret)),
        ]:
            status, headers, body = answer
            check(status == expected and body.get("error") == error, f"{error}: status {status}, {body}")
            check(status != 401 or "www-authenticate" in headers, "no WWW-Authenticate")
            check(self.secret not in json.dumps(body) and WRONG not in json.dumps(body), "the secret is repeated")

    # ---- authorizer ----

    def authorizes_http_requests(self):
        for token in (self.text_token, self.issue(scope="events")["access_token"]):
            answer = self.functions.invoke("authorizer", event("authorizer-http", token=token))
            check(answer.get("isAuthorized") is True, f"a good token gets {answer}")
        bound = self.issue(scope="events", bus_no=BUS)["access_token"]
        context = self.functions.invoke("authorizer", event("authorizer-http", token=bound))["context"]
        check(context["busNo"] == str(BUS) and context["scope"] == "events", f"context {context}")
        answer = self.functions.invoke("authorizer", event("authorizer-http", token=WRONG))
        check(answer.get("isAuthorized") is False, f"a wrong token gets {answer}")
        nobody = event("authorizer-http")
        del nobody["headers"]["authorization"]
        nobody["identitySource"] = []
        check(self.functions.invoke("authorizer", nobody).get("isAuthorized") is False, "no token is enough")

    def effect(self, token, query=True):
        """What the policy for a $connect says: Allow, Deny, or Unauthorized where there is none."""
        payload = event("authorizer-connect", token=token)
        if not query:
            payload["headers"]["Authorization"] = payload["multiValueHeaders"]["Authorization"] = [f"Bearer {token}"]
            payload["headers"]["Authorization"] = f"Bearer {token}"
            payload["queryStringParameters"] = payload["multiValueQueryStringParameters"] = None
        url = f"{self.lambda_url}/2015-03-31/functions/authorizer/invocations"
        _, headers, body = call("POST", url, json.dumps(payload).encode())
        answer = json.loads(body)
        if "x-amz-function-error" in headers or "errorMessage" in answer:
            return answer.get("errorMessage"), {}
        statements = answer["policyDocument"]["Statement"]
        check(answer.get("principalId") and len(statements) == 1, f"answer {answer}")
        check(all(isinstance(value, str) for value in answer.get("context", {}).values()), "a context that is not text")
        return statements[0]["Effect"], answer.get("context", {})

    def authorizes_handshakes(self):
        bound = self.issue(scope="audio listen", bus_no=BUS, contact_id=self.contact())["access_token"]
        for token in (self.audio_token, bound):
            for query in (True, False):
                check(self.effect(token, query)[0] == "Allow", f"a good token is refused (in the query: {query})")
        check(self.effect(bound)[1].get("contactId") == str(self.contact_next), "the context does not name the contact")
        check(self.effect(WRONG)[0] in ("Deny", "Unauthorized"), "a wrong token is let in")

    # ---- contact events ----

    def note(self, contact, body, token=None, bus=BUS, authorizer=True):
        payload = event("contact-events", token=token or self.text_token)
        path = f"/contacts/{bus}/{contact}/events"
        payload |= {"rawPath": path, "body": json.dumps(body)}
        payload["pathParameters"] = {"busNo": str(bus), "contactId": str(contact)}
        payload["requestContext"]["http"]["path"] = path
        if not authorizer:
            del payload["requestContext"]["authorizer"]
        return payload

    def notes_contact_events(self):
        contact = self.contact()
        for kind in ("start", "hold", "resume", "end"):
            status, _, body = self.functions.http("contact-events", self.note(contact, {"event": kind, "agentId": "a-1"}))
            check(status == 200 and body["status"] == "accepted", f"{kind}: status {status}, {body}")
            check(body["contactId"] == contact and body["busNo"] == BUS and body["requestId"], f"body {body}")
        bound = self.issue(scope="events", contact_id=contact, bus_no=BUS)["access_token"]
        ours = self.note(contact, {"event": "start"}, bound, authorizer=False)
        check(self.functions.http("contact-events", ours)[0] == 200, "a token of the contact is refused")

    def refuses_contact_events(self):
        contact = self.contact()
        bound = self.issue(scope="events", contact_id=contact, bus_no=BUS)["access_token"]
        start = {"event": "start"}
        for expected, field, payload in [
            (401, None, self.note(contact, start, WRONG, authorizer=False)),
            (403, None, self.note(self.contact(), start, bound, authorizer=False)),
            # What the authorizer granted is for one business unit.
            (403, None, self.note(contact, start, bus=OTHER_BUS)),
            (400, "event", self.note(contact, {"event": "pause"})),
            (400, "event", self.note(contact, {})),
        ]:
            self.refuses(expected, field, payload, "contact-events")

    # ---- suggestions ----

    def suggest(self, contact, suggestion, token=None, bus=BUS, authorizer=True):
        payload = event("suggestions", token=token or self.text_token)
        path = f"/contacts/{bus}/{contact}/suggestions"
        payload |= {"rawPath": path, "body": json.dumps(suggestion)}
        payload["pathParameters"] = {"busNo": str(bus), "contactId": str(contact)}
        payload["requestContext"]["http"]["path"] = path
        if not authorizer:
            del payload["requestContext"]["authorizer"]
        return payload

    def takes_five_suggestions_and_says_which_rule_refuses(self):
        contact = self.contact()
        for number in range(1, 6):
            suggestion = {"id": f"s-{number}", "content": TEXT, "relevanceScore": 0.9}
            status, _, body = self.functions.http("suggestions", self.suggest(contact, suggestion))
            check(status == 202 and body["active"] == number, f"suggestion {number}: status {status}, {body}")
            check(body["suggestionId"] == f"s-{number}" and body["interactionId"] == str(contact), f"body {body}")
        for expected, rule, suggestion in [
            (409, "active_max", {"id": "s-6", "content": TEXT, "relevanceScore": 0.9}),
            (409, "duplicate_id", {"id": "s-1", "content": TEXT, "relevanceScore": 0.9}),
            (422, "relevance_min", {"id": "s-7", "content": TEXT, "relevanceScore": 0.69}),
        ]:
            # Five are active in the first contact: the rules are judged in their order.
            asked = contact if rule == "active_max" else self.contact()
            if rule == "duplicate_id":
                self.functions.http("suggestions", self.suggest(asked, suggestion))
            status, _, body = self.functions.http("suggestions", self.suggest(asked, suggestion))
            check(status == expected and body["rule"] == rule, f"{rule}: status {status}, {body}")

    def refuses_suggestions(self):
        contact = self.contact()
        good = {"id": "s-1", "content": TEXT, "relevanceScore": 0.9}
        for expected, field, payload in [
            (401, None, self.suggest(contact, good, WRONG, authorizer=False)),
            (403, None, self.suggest(contact, good, bus=OTHER_BUS)),
            (400, "relevanceScore", self.suggest(contact, good | {"relevanceScore": "much"})),
            (400, "content", self.suggest(contact, {"id": "s-1", "relevanceScore": 0.9})),
        ]:
            self.refuses(expected, field, payload, "suggestions")

    # ---- reference ----

    def reference(self, method, path, body=None):
        payload = event("reference")
        payload |= {"rawPath": path, "routeKey": f"{method} {path}"}
        payload["requestContext"]["http"] |= {"method": method, "path": path}
        if body is not None:
            payload["body"] = json.dumps(body)
            payload["headers"]["content-type"] = "application/json"
        return self.functions.http("reference", payload)

    def shows_the_reference(self):
        hooks = "/agent_assist_audio_websocket_hooks"
        status, _, document = self.reference("GET", "/openapi.json")
        check(status == 200 and document["openapi"].startswith("3."), f"status {status}")
        check({HOOK, "/oauth/token", f"{hooks}/example-websocket-server"} <= set(document["paths"]), "paths are missing")
        status, _, document = self.reference("GET", "/asyncapi.json")
        check(status == 200 and "asyncapi" in document, f"status {status}")
        status, _, body = self.reference("GET", f"{hooks}/example-websocket-server")
        check(status == 200 and "wss://" in json.dumps(body), f"status {status}: {body}")
        status, _, init = self.reference("GET", f"{hooks}/initializemessage-example")
        check(status == 200 and "executionInfo" in init, f"status {status}: {init}")
        example = f"{hooks}/custom-assist-endpoint/initialize-audio-message-example"
        status, _, body = self.reference("POST", example, init)
        check(status == 200 and body == json.loads(CONNECTED), f"status {status}: {body}")
        check(self.reference("GET", "/nothing-here")[0] == 404, "a path that is none is served")

    # ---- sockets ----

    def message(self, connection, body, message=None, **more):
        payload = event("ws-message", connection=connection, message=message or uuid.uuid4().hex, token=self.audio_token)
        payload |= {"body": body, **more}
        return self.functions.invoke("ws-message", payload)

    def open(self, contact, connection):
        connect = event("ws-connect", connection=connection, token=self.audio_token)
        answer = self.functions.invoke("ws-connect", connect)
        check(answer["statusCode"] == 200, f"$connect gets {answer['statusCode']}")
        init = json.loads(event("ws-message", token=self.audio_token)["body"])
        init["executionInfo"] |= {"contactId": contact, "busNo": BUS}
        # One channel: what was sent is in the recording as it was sent.
        init["streamPerspective"] = "MIX"
        answer = self.message(connection, json.dumps(init))
        check(answer["statusCode"] == 200, f"the init message gets {answer['statusCode']}")
        frames = Connections.wait(connection, 1)
        check(frames == [CONNECTED], f"the answer is {frames}")

    def accepted(self, connection, count):
        """What was acknowledged: (first sample, samples) of every piece."""
        frames = [json.loads(frame) for frame in Connections.wait(connection, count + 1)[1:]]
        for frame in frames:
            check(frame["command"] == "MESSAGE", f"audio is answered with {frame}")
        return sorted((frame["parameters"]["firstSample"], frame["parameters"]["samples"]) for frame in frames)

    def disconnect(self, connection):
        answer = self.functions.invoke("ws-disconnect", event("ws-disconnect", connection=connection))
        check(answer["statusCode"] == 200, f"$disconnect gets {answer['statusCode']}")

    def carries_audio_through_api_gateway(self):
        contact, connection = self.contact(), f"c-{uuid.uuid4().hex}"
        audio = random.Random(7).randbytes(4000).replace(b"\xff", b"\x00")
        cut = [audio[at : at + 800] for at in range(0, len(audio), 800)]
        pieces = [base64.b64encode(piece).decode() for piece in cut]
        self.open(contact, connection)
        self.message(connection, pieces[0], "m-0")
        # As CONVERT_TO_BINARY has it: the function gets what API Gateway decoded, in base64 again.
        self.message(connection, pieces[1], "m-1", isBase64Encoded=True)
        for number, piece in list(enumerate(pieces))[2:]:
            self.message(connection, piece, f"m-{number}")
        # Lambda tries again what it is not sure of.
        self.message(connection, pieces[4], "m-4")
        accepted = sorted(set(self.accepted(connection, len(pieces))))
        check(accepted == [(at, 800) for at in range(0, len(audio), 800)], f"accepted {accepted}")
        self.disconnect(connection)
        recording = self.recording(contact)
        # A late piece has silence before it, so each is looked for by itself.
        places = [(recording.find(piece), recording.count(piece)) for piece in cut]
        check(all(count == 1 for _, count in places), f"the recording holds the pieces {[n for _, n in places]} times")
        check(places == sorted(places), "the recording holds the pieces in another order")

    def recording(self, contact):
        """The samples of a contact's recording, once the reaper has finished it."""
        until = time.monotonic() + FINISH_S_MAX
        while time.monotonic() < until:
            self.functions.invoke("reaper", event("reaper"))
            listing = call("GET", f"{self.aws_url}/{self.bucket}?list-type=2&prefix=calls/contacts/{BUS}/{contact}/")[2]
            keys = re.findall(r"<Key>([^<]+)</Key>", listing.decode())
            wav = [key for key in keys if key.endswith("recording.wav")]
            if wav:
                return call("GET", f"{self.aws_url}/{self.bucket}/{wav[0]}")[2]
            time.sleep(0.5)
        check(False, "the reaper made no recording")

    def forgets_connections_that_are_gone(self):
        contact, connection = self.contact(), f"c-{uuid.uuid4().hex}"
        self.open(contact, connection)
        Connections.gone.add(connection)
        piece = base64.b64encode(bytes(160)).decode()
        # The connection is not there to hear of it, and the event must not come back for ever.
        check(self.message(connection, piece)["statusCode"] < 500, "410 is the caller's trouble")
        Connections.gone.discard(connection)
        self.message(connection, piece)
        check(len(Connections.wait(connection, 2, 0.5)) == 1, "a connection that was gone is served again")

    def stands_events_in_any_order(self):
        contact, connection = self.contact(), f"c-{uuid.uuid4().hex}"
        self.disconnect(connection)
        init = json.loads(event("ws-message", token=self.audio_token)["body"])
        init["executionInfo"] |= {"contactId": contact, "busNo": BUS}
        check(self.message(connection, json.dumps(init))["statusCode"] < 500, "a message after the end is a failure")
        answer = self.functions.invoke("ws-connect", event("ws-connect", connection=connection, token=self.audio_token))
        check(answer["statusCode"] < 500, "a $connect after the end is a failure")
        check(CONNECTED not in Connections.wait(connection, 1, 0.5), "a connection that has ended is answered")

    # ---- function URLs ----

    def serves_function_urls(self):
        url = f"{self.lambda_url}/lambda-url"
        status, headers, body = call("GET", f"{url}/reference/openapi.json")
        check(status == 200 and headers["content-type"].startswith("application/json"), f"status {status}")
        check(json.loads(body)["paths"], "no paths")
        contact = self.contact()
        payload = self.utterance(contact)
        headers = {"content-type": "application/json", "authorization": f"Bearer {self.text_token}"}
        status, _, body = call("POST", f"{url}/text-hook{HOOK}", payload["body"].encode(), headers)
        check(status == 200 and json.loads(body)["contactId"] == contact, f"status {status}: {body[:200]}")
        headers["authorization"] = f"Bearer {WRONG}"
        check(call("POST", f"{url}/text-hook{HOOK}", payload["body"].encode(), headers)[0] == 401, "a wrong token")


def main(lambda_url, assist_url, connections_port, aws_url, bucket):
    server = ThreadingHTTPServer(("127.0.0.1", int(connections_port)), Connections)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    run, cases = Run(lambda_url, assist_url, aws_url, bucket), Cases("functions.py")
    wanted = [
        ("token: issues tokens as RFC 6749 says", run.issues_tokens_as_rfc_6749_says),
        ("token: refuses as RFC 6749 says", run.refuses_tokens_as_rfc_6749_says),
        ("text-hook: accepts an utterance and hands it over once", run.accepts_an_utterance_and_hands_it_over_once),
        (f"text-hook: hands one of {COPIES} copies over", run.hands_one_of_many_copies_over),
        ("text-hook: takes the token from the body", run.takes_the_token_from_the_body),
        ("text-hook: takes a body in base64", run.takes_a_base64_body),
        ("text-hook: refuses what it cannot take, and names the field", run.refuses_what_it_cannot_take),
        ("text-hook: refuses tokens of others and forged ones", run.refuses_tokens_of_others),
        ("text-hook: a one-time token is good once", run.one_time_tokens_are_good_once),
        ("reaper: delivers what the app could not take, once", run.keeps_what_the_app_cannot_take_now),
        ("authorizer: HTTP requests", run.authorizes_http_requests),
        ("authorizer: handshakes", run.authorizes_handshakes),
        ("contact-events: notes start, hold, resume and end", run.notes_contact_events),
        ("contact-events: refuses what is not the caller's", run.refuses_contact_events),
        ("suggestions: takes five, and says which rule refuses", run.takes_five_suggestions_and_says_which_rule_refuses),
        ("suggestions: refuses what it cannot take, and names the field", run.refuses_suggestions),
        ("reference: every document and example", run.shows_the_reference),
        ("ws-*: audio through API Gateway ends in the recording", run.carries_audio_through_api_gateway),
        ("ws-*: forgets connections that are gone", run.forgets_connections_that_are_gone),
        ("ws-*: the end before the message before the beginning", run.stands_events_in_any_order),
        ("function URLs: reference and text-hook", run.serves_function_urls),
    ]
    for name, case in wanted:
        cases.run(name, case)
    return cases.verdict(len(wanted))


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    sys.exit(main(*(each.rstrip("/") for each in sys.argv[1:])))
