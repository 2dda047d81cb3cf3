"""Services that require a login. Each behaves like recordings or documentation of its provider.

They use real sockets. Their secrets are in `secrets`, so that a test can search for them.
"""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, quote, urlsplit

from tests.net.memory import Answer
from tests.net.wire_server import ReceivedRequest, WireServer, json_answer

from stacpull.clock import Clock, SystemClock

DATA = bytes(range(256)) * 8


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Service(WireServer):
    def __init__(self) -> None:
        super().__init__({})
        self.secrets: list[str] = []

    def _turn(self, request: ReceivedRequest) -> Answer:
        parts = urlsplit(request.target)
        return self.respond(request, parts.path, {k: v[-1] for k, v in parse_qs(parts.query).items()})

    def respond(self, request: ReceivedRequest, path: str, query: Mapping[str, str]) -> Answer:
        raise NotImplementedError


class Signing(Service):
    """Planetary Computer's signing service (data/stac/planetarycomputer/sas_token.json)."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__()
        self.clock = clock or SystemClock()
        self.known = {"data"}
        """Containers that it issues signatures for."""
        self.valid: set[str] = set()
        self.throttled = 0
        """The number of further requests to answer with 429."""
        self.given = 0

    def respond(self, request: ReceivedRequest, path: str, query: Mapping[str, str]) -> Answer:
        if self.throttled:
            self.throttled -= 1
            return json_answer(
                {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 1 seconds."}, 429
            )
        _, _, rest = path.partition("/api/sas/v1/token/")
        account, _, container = rest.partition("/")
        if account != "127" or container not in self.known:
            return json_answer({"detail": "No such container"}, 404)
        self.given += 1
        signature = f"planted+signature/{self.given}=="
        self.secrets.append(signature)
        self.valid.add(signature)
        expiry = datetime.fromtimestamp(self.clock.time(), UTC) + timedelta(minutes=45)
        end = expiry.strftime("%Y-%m-%dT%H:%M:%SZ")
        token = f"se={quote(end, safe='')}&sp=rl&sv=2021-06-08&sr=c&sig={quote(signature, safe='')}"
        return json_answer({"msft:expiry": end, "token": token})


class Blobs(Service):
    """Azure's blobs: private ones answer 404 without a signature, and 403 with an invalid one."""

    def __init__(self, signing: Signing, elsewhere: str = "") -> None:
        super().__init__()
        self.signing = signing
        self.elsewhere = elsewhere

    def respond(self, request: ReceivedRequest, path: str, query: Mapping[str, str]) -> Answer:
        if path.startswith("/public/"):
            return Answer(body=DATA)
        if "sig" not in query:
            body = b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>ResourceNotFound</Code></Error>"
            return Answer(404, body, {"Content-Type": "application/xml"})
        if query["sig"] not in self.signing.valid:
            body = b"\xef\xbb\xbf<?xml version='1.0'?><Error><Code>AuthenticationFailed</Code></Error>"
            return Answer(403, body, {"Content-Type": "application/xml"})
        if path.endswith("/moved"):
            return Answer(302, headers={"Location": f"{self.elsewhere}?{urlsplit(request.target).query}"})
        return Answer(body=DATA, headers={"Content-Type": "application/octet-stream"})


class Identity(Service):
    """The identity service of Copernicus: tokens for 10 minutes, refreshed for an hour."""

    def __init__(self, *, user: str = "planted-user", password: str = "planted+pass/word", life: int = 600):
        super().__init__()
        self.user, self.password, self.life = user, password, life
        self.valid: set[str] = set()
        self.refreshes: set[str] = set()
        self.grants: list[str] = []
        self.secrets = [password]

    def respond(self, request: ReceivedRequest, path: str, query: Mapping[str, str]) -> Answer:
        if path != "/token":
            return Answer(404)
        form = {name: values[-1] for name, values in parse_qs(request.body.decode()).items()}
        grant = form["grant_type"]
        self.grants.append(grant)
        refreshed = grant == "refresh_token" and form["refresh_token"] in self.refreshes
        named = grant == "password" and (form["username"], form["password"]) == (self.user, self.password)
        client = grant == "client_credentials" and form.get("client_secret") == self.password
        if request.method != "POST" or not (refreshed or named or client):
            error = {"error": "invalid_grant", "error_description": "Invalid user credentials"}
            return json_answer(error, 401)
        number = len(self.grants)
        token, refresh = f"planted-access-token-{number}", f"planted-rt-{number}"  # fewer than 16 characters
        self.secrets += [token, refresh]
        self.valid.add(token)
        self.refreshes.add(refresh)
        reply = {"access_token": token, "expires_in": self.life, "refresh_token": refresh,
                 "refresh_expires_in": 3600, "token_type": "Bearer"}  # fmt: skip
        return json_answer(reply)


class Downloads(Service):
    """A host that requires the tokens of `identity`; `/moved` redirects to another host."""

    def __init__(self, identity: Identity, elsewhere: str = "") -> None:
        super().__init__()
        self.identity = identity
        self.elsewhere = elsewhere

    def respond(self, request: ReceivedRequest, path: str, query: Mapping[str, str]) -> Answer:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or token not in self.identity.valid:
            return json_answer({"detail": "Expired signature!"}, 401, **{"WWW-Authenticate": "Bearer"})
        if path.endswith("/moved"):
            return Answer(302, headers={"Location": self.elsewhere})
        return Answer(body=DATA)


class Urs(Service):
    """Earthdata Login. `approved`: the account has approved the application."""

    def __init__(self, *, user: str = "planted-user", password: str = "planted+pass/word") -> None:
        super().__init__()
        self.user, self.password = user, password
        self.wanted = basic(user, password)
        self.secrets = [password, self.wanted.partition(" ")[2]]
        self.approved = True
        self.codes: set[str] = set()

    def respond(self, request: ReceivedRequest, path: str, query: Mapping[str, str]) -> Answer:
        if path != "/oauth/authorize":
            return Answer(404)
        authorization = request.headers.get("authorization")
        if authorization is None:
            return page("Earthdata Login")
        if authorization != self.wanted:
            return Answer(401, b"HTTP Basic: Access denied.", {"Content-Type": "text/html"})
        if not self.approved:
            return page("Approve the application")
        code = f"code{len(self.codes)}"
        self.codes.add(code)
        back = f"{query['redirect_uri']}?code={code}&state={quote(query['state'], safe='')}"
        return Answer(302, headers={"Location": back, "Set-Cookie": "_urs-gui_session=x1; path=/; HttpOnly"})


class DataCentre(Service):
    """A host that redirects requests without a cookie to `urs`, and sets a cookie afterwards."""

    def __init__(self, urs: Urs, elsewhere: str = "") -> None:
        super().__init__()
        self.urs = urs
        self.elsewhere = elsewhere
        self.sessions: set[str] = set()

    def respond(self, request: ReceivedRequest, path: str, query: Mapping[str, str]) -> Answer:
        cookies = dict(
            pair.strip().split("=", 1) for pair in request.headers.get("cookie", "").split(";") if "=" in pair
        )
        if path == "/login":
            if cookies.get("state") != "sent-away":
                return Answer(400, b"whose login is this?")
            session = f"planted-session-{query['code']}"
            self.sessions.add(session)
            self.secrets.append(session)
            cookie = f"accessToken={session}; Path=/; Expires=Wed, 21 Oct 2099 07:28:00 GMT"
            return Answer(301, headers={"Location": self.url(query["state"]), "Set-Cookie": cookie})
        if cookies.get("accessToken") not in self.sessions:
            back = quote(self.url("/login"), safe="")
            where = f"/oauth/authorize?client_id=app&response_type=code&redirect_uri={back}&state={path}"
            fields = {"Location": self.urs.url(where), "Set-Cookie": "state=sent-away; Path=/"}
            return Answer(302, headers=fields)
        if path.endswith("/moved"):
            return Answer(303, headers={"Location": self.elsewhere})
        return Answer(body=DATA)


class PlanetApi(Service):
    """Planet's Data API: assets become active after `looks` requests."""

    def __init__(self, files: str = "", *, key: str = "planted-planet-key", looks: int = 2) -> None:
        super().__init__()
        self.files = files
        self.key = key
        self.looks = looks
        self.activated: dict[str, int] = {}
        self.secrets = [key, basic(key, "").partition(" ")[2], "planted-location-token"]
        self.refuse_activation = False

    def respond(self, request: ReceivedRequest, path: str, query: Mapping[str, str]) -> Answer:
        if request.headers.get("authorization") != basic(self.key, ""):
            return json_answer({"message": "Please enter your API key"}, 401)
        asset, _, act = path.removeprefix("/data/v1/assets/").partition("/")
        if act == "activate":
            if self.refuse_activation:
                return json_answer({"message": "No access to this asset."}, 403)
            self.activated.setdefault(asset, 0)
            return Answer(202)
        links = {"_self": self.url(path), "activate": self.url(f"{path}/activate")}
        if asset not in self.activated:
            return json_answer({"status": "inactive", "_links": links, "type": "ortho_analytic_4b"})
        self.activated[asset] += 1
        if self.activated[asset] <= self.looks:
            return json_answer({"status": "activating", "_links": links})
        location = f"{self.files}?token=planted-location-token"
        return json_answer({"status": "active", "_links": links, "location": location})


def page(text: str) -> Answer:
    body = f"<!DOCTYPE html><html><head><title>{text}</title></head></html>".encode()
    return Answer(200, body, {"Content-Type": "text/html; charset=utf-8"})
