"""What the demo directory shows in the browser; plain HTML, and every page says that nobody is really signed in."""

import json
from base64 import b64encode
from collections.abc import Iterable
from hashlib import sha256
from html import escape

from starlette.responses import HTMLResponse

from azure_auth.demo.people import Person

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Demo directory</title>
<style>
:root {{ color-scheme: light dark; --ink: #0f172a; --soft: #475569; --paper: #fff; --ground: #eef2f7;
  --line: #cbd5e1; --focus: #1d4ed8; --note: #fef3c7; --note-ink: #713f12 }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #f1f5f9; --soft: #a8b4c6; --paper: #1b2536; --ground: #0f172a;
  --line: #475569; --focus: #60a5fa; --note: #422006; --note-ink: #fde68a }} }}
* {{ box-sizing: border-box }}
body {{ margin: 0; min-height: 100vh; display: grid; place-items: center; padding: 1rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }}
main {{ width: 100%; max-width: 28rem; padding: clamp(1rem, 6vw, 2rem); border-radius: 1rem; background: var(--paper);
  box-shadow: 0 1px 3px #0003 }}
h1 {{ margin: 1.25rem 0 .25rem; font-size: 1.5rem; line-height: 1.25 }}
p {{ margin: 0 0 1rem; color: var(--soft); overflow-wrap: anywhere }}
.note {{ margin: 0; padding: .5rem .75rem; border-radius: .5rem; background: var(--note); color: var(--note-ink);
  font-size: .875rem }}
button {{ display: flex; align-items: center; gap: .75rem; width: 100%; margin-top: .5rem; padding: .625rem .75rem;
  border: 1px solid var(--line); border-radius: .5rem; background: none; color: inherit; font: inherit;
  text-align: left; overflow-wrap: anywhere; cursor: pointer }}
button:hover {{ background: var(--ground) }}
button:focus-visible {{ outline: 2px solid var(--focus); outline-offset: 1px }}
button[value=""] {{ justify-content: center; border-color: transparent }}
i {{ flex: none; display: grid; place-items: center; width: 2.5rem; height: 2.5rem; border-radius: 50%;
  background: var(--ground); color: var(--soft); font: 600 .875rem system-ui, sans-serif }}
small {{ display: block; color: var(--soft); font-size: .8125rem }}
</style></head>
<body><main><p class="note" role="note">Demo directory: a stand-in for Microsoft Entra on this machine.
Nobody is really signed in.</p>{body}</main></body></html>"""

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
}


def choose_person(people: Iterable[Person]) -> HTMLResponse:
    """Return the page that asks who signs in: a button for each person, posting `person` to this same address."""
    buttons = "".join(_button(person) for person in people)
    cancel = '<button name="person" value="">Cancel</button>'
    form = f'<form method="post">{buttons}{cancel}</form>'
    return _page("Pick an account", f"<h1>Pick an account</h1><p>to sign in to the app</p>{form}")


def _button(person: Person) -> str:
    name = person.name or person.username
    initials = "".join(word[0] for word in name.split()).upper()
    username = f"{escape(person.username)} · ".replace("@", "<wbr>@") if person.name else ""
    return (
        f'<button name="person" value="{person.oid}"><i aria-hidden="true">{initials}</i>'
        f"<span>{escape(name)}<small>{username}{escape(person.about)}</small></span></button>"
    )


def message(title: str, text: str, status: int = 200) -> HTMLResponse:
    """Return a page with nothing but a message."""
    return _page(title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>", status)


def signed_out(frame: str, back: str | None) -> HTMLResponse:
    """Return the page that tells an app of the sign-out, in a frame, and then leads back, if there is a way back."""
    go = f"location.replace({json.dumps(back)})" if back else ""
    script = f"document.querySelector('iframe').onload = () => {{ {go} }}"
    later = f'<noscript><meta http-equiv="refresh" content="3;url={escape(back)}"></noscript>' if back else ""
    text = "<h1>You signed out of your account</h1><p>It's a good idea to close all browser windows.</p>"
    body = f'{text}<iframe hidden title="Signs out of the app"></iframe>{later}<script>{script};'
    body += f"document.querySelector('iframe').src = {json.dumps(frame)}</script>"
    page = _page("Signed out", body)
    inline = b64encode(sha256(body.partition("<script>")[2].removesuffix("</script>").encode()).digest()).decode()
    origin = "/".join(frame.split("/")[:3])
    page.headers["Content-Security-Policy"] += f"; script-src 'sha256-{inline}'; frame-src {origin}"
    return page


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(title=escape(title), body=body), status, _HEADERS)
