"""What the scripts of this folder share: events with their words filled in, calls over HTTP, and one line per case."""

import base64
import json
import pathlib
import time
import traceback
import urllib.error
import urllib.request

EVENTS = pathlib.Path(__file__).with_name("events")
ANSWER_S_MAX = 35.0
CONNECTED = '{"command":"CONNECTED","messageType":"COMMAND","message":"BEGIN AUDIO STREAM"}'

# No environment of the machine's may send these calls through a proxy.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Wrong(Exception):
    """Something is not as it must be."""


def check(holds, otherwise):
    if not holds:
        raise Wrong(otherwise)


def call(method, url, body=None, headers=None):
    """One HTTP request: status, headers, body."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with OPENER.open(request, timeout=ANSWER_S_MAX) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers, refusal.read()


def event(name, **words):
    """An event of `events/`, with every `@WORD@` in it replaced."""

    def fill(value):
        match value:
            case str():
                for word, text in words.items():
                    value = value.replace(f"@{word.upper()}@", text)
                return value
            case list():
                return [fill(each) for each in value]
            case dict():
                return {key: fill(each) for key, each in value.items()}
        return value

    return fill(json.loads((EVENTS / f"{name}.json").read_text(encoding="utf-8")))


class Functions:
    """Lambda's invoke API, as `cargo lambda watch` offers it."""

    def __init__(self, url):
        self.url = url

    def invoke(self, name, payload):
        """The function's own answer, whatever it is."""
        url = f"{self.url}/2015-03-31/functions/{name}/invocations"
        status, headers, body = call("POST", url, json.dumps(payload).encode(), {"content-type": "application/json"})
        answer = json.loads(body) if body else None
        check(status == 200, f"the invoke API says {status}")
        check("x-amz-function-error" not in headers, "the function failed")
        return answer

    def http(self, name, payload):
        """A proxy answer: status, headers in lower case, body as JSON where it is JSON."""
        answer = self.invoke(name, payload)
        check(isinstance(answer, dict) and isinstance(answer.get("statusCode"), int), "no status in the answer")
        headers = {key.lower(): value for key, value in (answer.get("headers") or {}).items()}
        body = answer.get("body") or ""
        if answer.get("isBase64Encoded"):
            body = base64.b64decode(body).decode()
        is_json = headers.get("content-type", "").partition(";")[0].endswith("json")
        return answer["statusCode"], headers, json.loads(body) if is_json and body else body


class HttpDoor:
    """The HTTP routes, as `earpiece serve` has them."""

    def __init__(self, url):
        self.url = url

    def ask(self, method, path, headers=None, body=None):
        """One request: status, headers, body as text."""
        status, answered, text = call(method, self.url + path, body and body.encode(), headers)
        return status, {key.lower(): value for key, value in answered.items()}, text.decode()


class LambdaDoor:
    """The same routes, as an HTTP API hands them to the functions. `prefix` stands before the functions' names."""

    ROUTES = {
        "/agent_assist_text_webhooks/": "text-hook",
        "/contacts/": "contact-events",
        "/oauth/": "token",
        "/.well-known/": "token",
        "/": "reference",
    }

    def __init__(self, url, prefix=""):
        self.functions, self.prefix = Functions(url), prefix

    def function_of(self, path):
        return next(name for start, name in self.ROUTES.items() if path.startswith(start))

    def ask(self, method, path, headers=None, body=None):
        """One request: status, headers, body as text."""
        path, _, query = path.partition("?")
        # Of the routes below a contact, this one is another function's.
        is_suggestion = path.split("?")[0].endswith("/suggestions")
        function = "suggestions" if is_suggestion else self.function_of(path)
        payload = event("reference")
        payload |= {"rawPath": path, "rawQueryString": query, "routeKey": f"{method} {path}"}
        payload["requestContext"]["http"] |= {"method": method, "path": path}
        payload["headers"] |= {name.lower(): value for name, value in (headers or {}).items()}
        if body is not None:
            payload |= {"body": base64.b64encode(body.encode()).decode(), "isBase64Encoded": True}
        status, answered, body = self.functions.http(self.prefix + function, payload)
        return status, answered, body if isinstance(body, str) else json.dumps(body)


class Cases:
    """Runs cases one after the other, prints one line for each, and knows how many failed."""

    def __init__(self, what):
        self.what, self.began, self.passed, self.failed = what, time.monotonic(), 0, 0

    def run(self, name, case, *arguments):
        try:
            case(*arguments)
        except Exception as error:
            self.fail(name, error)
        else:
            self.ok(name)

    def ok(self, name):
        self.passed += 1
        print(f"ok    {name}", flush=True)

    def fail(self, name, error):
        self.failed += 1
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, Wrong):
            print(f"FAIL  {name}: {error}", flush=True)
        else:
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAIL  {name}: {type(error).__name__} at line {where.lineno}: {error}", flush=True)

    def verdict(self, expected):
        """The exit code. A run with fewer cases than expected has not tested what it says."""
        took_s = time.monotonic() - self.began
        print(f"{self.what}: {self.passed} ok, {self.failed} failed, {took_s:.1f} s")
        if self.passed + self.failed != expected:
            print(f"FAIL  {self.what}: {expected} cases expected")
            return 1
        return 1 if self.failed else 0
