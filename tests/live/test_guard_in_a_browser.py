"""What a browser does with the link, the cookie and the headers; and what another site's page can have it do."""

from __future__ import annotations

import json

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Route

from tests.live.conftest import listening, messages_about
from tests.live.scripted import Scripted
from trajkit.live.access import Access
from trajkit.live.app import Server

TOKEN = "s3cret+/=?&"
ATTACK = """
async () => {
  const tries = [];
  const send = (path, options) => fetch(TARGET + path, options).then(
    async (answer) => tries.push([path, answer.type, answer.type === "opaque" ? "" : await answer.text()]),
    (error) => tries.push([path, "failed", ""]));
  const body = JSON.stringify(ASKED);
  const json = { "Content-Type": "application/json" };
  for (const credentials of ["include", "omit"]) {
    await send("/v1/chat/completions", { method: "POST", mode: "no-cors", body, credentials });
    await send("/v1/chat/completions", { method: "POST", headers: json, body, credentials });
    await send("/api/runs/x/label", { method: "PUT", headers: json, body: '{"label": null}', credentials });
    await send("/api/runs", { credentials });
    await send("/metrics", { credentials });
    await send("/api/runs", { mode: "no-cors", credentials });
  }
  const frame = document.createElement("iframe");
  frame.src = TARGET + "/";
  document.body.append(frame);
  await new Promise((done) => { frame.onload = done; setTimeout(done, 1000); });
  const form = document.createElement("form");
  Object.assign(form, { method: "POST", action: TARGET + "/v1/chat/completions", enctype: "text/plain" });
  form.target = "there";
  const field = document.createElement("input");
  [field.name, field.value] = [body.slice(0, -1) + ',"user":"', '"}'];
  form.append(field);
  const there = document.createElement("iframe");
  there.name = "there";
  document.body.append(there, form);
  form.submit();
  await new Promise((done) => setTimeout(done, 500));
  return tries;
}
"""


@pytest.fixture
def page(chromium):
    page = chromium.new_page()
    page.set_default_timeout(10_000)
    yield page
    page.close()


def of_another_site(address):
    """A page whose host is another one to a browser."""

    async def lure(request):
        return HTMLResponse(f"<body><a href='{address}/'>look here</a>")

    return Starlette(routes=[Route("/", lure)])


def attack(page, address):
    asked = json.dumps({"messages": messages_about("s00-0")})
    return page.evaluate(ATTACK.replace("TARGET", json.dumps(address)).replace("ASKED", asked))


def test_the_link_opens_the_page_and_leaves_nothing_that_a_script_or_an_address_tells(page):
    access = Access.at("127.0.0.1", TOKEN)
    with listening(Server(Scripted(), access=access)) as address:
        assert page.goto(f"{address}/").status == 401
        assert "open the link" in page.inner_text("body")
        answers = []
        page.on("response", lambda answer: answers.append((answer.url, answer.status)))
        with page.expect_response(lambda answer: "/api/runs" in answer.url):
            page.goto(access.link(address))
        assert page.evaluate("location.href.split('#')[0]") == f"{address}/"
        assert page.evaluate("document.cookie + document.referrer") == ""
        assert {status for _, status in answers} == {200, 303}
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], TOKEN in cookie["value"]) == (True, "Strict", False)
        page.reload()
        assert page.evaluate("fetch('/api/runs').then((answer) => answer.status)") == 200
        assert page.evaluate("fetch('/v1/models').then((answer) => answer.status)") == 401


@pytest.mark.parametrize("token", [None, TOKEN])
def test_another_sites_page_has_nothing_done_and_reads_nothing(page, token):
    """Also where the browser has the cookie."""
    access = Access.at("127.0.0.1", token)
    server = Server(Scripted(), access=access)
    with listening(server) as address, listening(of_another_site(address)) as other:
        page.goto(access.link(address))
        page.goto(other.replace("127.0.0.1", "localhost"))
        tries = attack(page, address)
        assert len(tries) == 12
        assert {kind for _, kind, _ in tries} <= {"failed", "opaque"}
        assert not any(text for *_, text in tries)
        assert server.engine.begun == 0
        assert not server.history.rows()
        framed = [frame for frame in page.frames if frame.parent_frame is not None]
        assert not any(frame.url.startswith(address) for frame in framed)


def test_a_site_that_is_let_in_may_ask_from_a_browser(page):
    server = Server(Scripted())
    with listening(of_another_site("")) as other:
        site = other.replace("127.0.0.1", "localhost")
        server = Server(Scripted(), access=Access.at("127.0.0.1", TOKEN, origins=[site]))
        with listening(server) as address:
            page.goto(site)
            asked = {"messages": messages_about("s00-0")}
            told = page.evaluate(
                """([where, token, asked]) => fetch(where + "/v1/chat/completions", {
                    method: "POST", body: JSON.stringify(asked),
                    headers: { "Content-Type": "application/json", Authorization: "Bearer " + token },
                }).then(async (answer) => [await answer.json(), answer.headers.get("X-Trajkit-Run")])""",
                [address, TOKEN, asked],
            )
    assert told[0]["choices"][0]["message"]["content"] == "yes"
    assert told[1]
