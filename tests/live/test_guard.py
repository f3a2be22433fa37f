"""Who may ask, seen from outside: over a real connection, with what browsers and other sites would send."""

from __future__ import annotations

from contextlib import contextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from tests.live.conftest import listening
from trajkit.errors import InputError
from trajkit.live.access import Access, name_of
from trajkit.live.guard import PAGE_POLICY, Guesses, guarded

TOKEN = "s3cret+/=?&"
JSON = {"Content-Type": "application/json"}


async def said(request):
    return JSONResponse({"path": request.url.path, "body": (await request.body()).decode()})


@contextmanager
def guarding(access):
    """(a client of a guarded server, what it refused)."""
    routes = [Route(path, said, methods=["GET", "POST"]) for path in ("/", "/health", "/api/runs", "/v1/models")]
    refused: list = []
    app = guarded(Starlette(routes=routes), access, lambda *one: refused.append(one))
    with listening(app) as address, httpx.Client(base_url=address) as client:
        yield client, refused


@pytest.fixture(scope="module")
def plain():
    with guarding(Access()) as (client, _):
        yield client


@pytest.fixture
def locked():
    with guarding(Access.at("127.0.0.1", TOKEN)) as (client, _):
        yield client


def get(client, path="/api/runs", **headers):
    return client.get(path, headers=headers)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:8321", "[::1]:8321"])
def test_the_server_goes_by_the_names_of_this_machine_at_any_port(plain, host):
    assert get(plain, Host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "127.0.0.1@evil",
        "localhost:x",
        "10.0.0.1",
    ],
)
def test_a_name_that_was_pointed_here_is_refused(plain, host):
    answer = get(plain, Host=host)
    assert answer.status_code == 421
    assert "--allow-host" in answer.json()["error"]["message"]


def test_further_names_and_any_address_where_it_listens_at_all():
    access = Access.at("0.0.0.0", "t", ["Gpu.example.org"])
    assert all(map(access.goes_by, ["localhost", "gpu.example.org", "10.0.0.1", "fe80::1"]))
    assert not any(map(access.goes_by, ["example.org", "10.0.0.1.example.org"]))
    assert not Access.at("192.168.0.7", "t").goes_by("10.0.0.1")
    assert [name_of(host) for host in ("a:80", "[::1]:80", "a@b", "a/b", "", "a:b")] == ["a", "::1", *[None] * 4]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"host": "0.0.0.0"}, "--token"),
        ({"host": "localhost", "token": "two words"}, "without spaces"),
        ({"host": "localhost", "token": "é"}, "letters"),
        ({"host": "localhost", "hosts": ["a:80"]}, "without a port"),
        ({"host": "localhost", "hosts": ["https://a"]}, "name such as"),
        ({"host": "localhost", "origins": ["example.org"]}, "https://example.org"),
        ({"host": "localhost", "origins": ["https://a/b"]}, "https://example.org"),
    ],
)
def test_what_no_server_can_go_by_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        Access.at(**given)


def test_what_changes_something_must_be_json(plain):
    assert plain.post("/v1/models", json={}).status_code == 200
    assert plain.post(
        "/v1/models", content=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"}
    ).is_success
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = plain.post("/v1/models", content=b"{}", headers={"Content-Type": kind} if kind else {})
        assert answer.status_code == 415
        assert "application/json" in answer.json()["error"]["message"]


def test_pages_of_other_sites_may_not_ask(plain):
    own = str(plain.base_url).rstrip("/")
    assert plain.post("/v1/models", json={}, headers={"Origin": own}).status_code == 200
    for origin in (
        "https://evil.example",
        "null",
        own.replace("127.0.0.1", "localhost"),
        f"{own}.evil.example",
        "http://127.0.0.1:1",
    ):
        answer = plain.post("/v1/models", json={}, headers={"Origin": origin})
        assert answer.status_code == 403, origin
        assert "Access-Control-Allow-Origin" not in answer.headers


def test_a_site_that_is_named_may_ask_and_is_told_so():
    site = "https://example.org"
    with guarding(Access.at("localhost", TOKEN, origins=[f"{site}/"])) as (client, _):
        asks = {
            "Origin": site,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,x-stainless-os",
        }
        preflight = client.options("/v1/models", headers=asks)
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == site
        bearing = {"Origin": site, "Authorization": f"Bearer {TOKEN}"}
        answer = client.post("/v1/models", json={}, headers=bearing)
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, site)
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert client.post("/v1/models", json={}, headers={"Origin": site}).status_code == 401
        other = client.options("/v1/models", headers=asks | {"Origin": "https://evil.example"})
        assert other.status_code == 400
        assert "Access-Control-Allow-Origin" not in other.headers


def test_a_token_is_asked_for_but_of_who_looks_after_the_server(locked):
    assert get(locked, "/health").status_code == 200
    assert get(locked).status_code == 401
    assert get(locked).headers["WWW-Authenticate"] == "Bearer"
    good, bad = (f"Bearer {TOKEN}", f"bearer  {TOKEN}"), (TOKEN, "Bearer", f"Basic {TOKEN}", f"Bearer {TOKEN}x")
    for said, status in [(one, 200) for one in good] + [(one, 401) for one in bad]:
        assert get(locked, Authorization=said).status_code == status, said


def test_the_link_leaves_a_cookie_for_the_page_that_is_not_the_token(locked):
    link = Access.at("127.0.0.1", TOKEN).link(str(locked.base_url).rstrip("/"))
    entered = locked.get(link)
    assert (entered.status_code, entered.headers["Location"]) == (303, "/")
    (cookie,) = entered.headers.get_list("set-cookie")
    assert TOKEN not in cookie
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert cookie.startswith(f"trajkit-{locked.base_url.port}=")
    assert [get(locked, path).status_code for path in ("/", "/api/runs", "/v1/models")] == [200, 200, 401]
    assert get(locked, Authorization="Bearer wrong").status_code == 401
    assert locked.post("/api/runs", json={}, headers={"Origin": "https://evil.example"}).status_code == 403
    locked.cookies.clear()
    assert locked.get("/?token=wrong").status_code == 401
    asked = get(locked, "/", Accept="text/html")
    assert (asked.status_code, asked.headers["Content-Type"].split(";")[0]) == (401, "text/plain")
    assert "link" in asked.text


def test_the_cookie_is_good_after_the_server_was_started_again_and_not_for_another_token():
    cookies = []
    for token in (TOKEN, TOKEN, "another"):
        with guarding(Access.at("127.0.0.1", token)) as (client, _):
            client.get("/", params={"token": token})
            cookies.append(next(iter(client.cookies.values())))
    assert cookies[0] == cookies[1] != cookies[2]


def test_who_guesses_is_slowed_and_who_says_one_wrong_thing_again_is_not(locked):
    for _ in range(30):
        assert get(locked, Authorization="Bearer old").status_code == 401
    answers = [get(locked, Authorization=f"Bearer {number}") for number in range(15)]
    assert {answer.status_code for answer in answers[:9]} == {401}
    assert {answer.status_code for answer in answers[9:]} == {429}
    assert int(answers[-1].headers["Retry-After"]) > 0
    assert get(locked, Authorization=f"Bearer {TOKEN}").status_code == 429  # or a guess could be told by its answer


def test_guesses_are_counted_by_address_and_forgotten_in_time():
    now = [0.0]
    guesses = Guesses(free=3, every=2.0, clock=lambda: now[0])
    for number in range(3):
        assert guesses.wait("a") == 0
        guesses.wrong("a", str(number))
    assert (guesses.wait("a"), guesses.wait("b")) == (2.0, 0.0)
    now[0] = 2.0
    assert guesses.wait("a") == 0
    guesses.wrong("a", "new")
    assert guesses.wait("a") == 2.0
    for number in range(3000):
        guesses.wrong(f"10.0.{number}", "x")
    assert len(guesses._of) <= 1024


def test_every_answer_bears_the_headers_that_keep_it_where_it_is(locked):
    for path, headers in (("/health", {}), ("/api/runs", {}), ("/nothing", {"Authorization": f"Bearer {TOKEN}"})):
        found = get(locked, path, **headers).headers
        assert found["Content-Security-Policy"] == PAGE_POLICY
        assert found["X-Content-Type-Options"] == "nosniff"
        assert found["Referrer-Policy"] == "no-referrer"
        assert found["Cross-Origin-Resource-Policy"] == "same-origin"
        assert found["Cache-Control"] == "no-store"


def test_who_is_refused_is_counted_by_status_and_kind():
    with guarding(Access.at("127.0.0.1", TOKEN)) as (client, refused):
        get(client)
        get(client, Host="evil.example")
    assert refused == [(401, "authentication_error"), (421, "invalid_request_error")]
