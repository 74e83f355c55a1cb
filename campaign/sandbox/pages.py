"""What the browser is given: the log-in, consent, connected-apps and thank-you pages, and the way back to the application."""

from typing import Any
from urllib.parse import urlencode

from jinja2 import DictLoader, Environment, StrictUndefined
from werkzeug import Request, Response
from werkzeug.utils import redirect

from campaign.docusign.scopes import BY_PRODUCT
from campaign.message import Composer

SCOPES = {scope: f"Use {product} in your name" for product, scopes in BY_PRODUCT.items() for scope in scopes.split()} | {
    "signature": "Create, send and read envelopes in your name",
    "impersonation": "Act in your name while you are away, until you revoke it",
    "extended": "Stay connected without asking you again",
    "openid": "See who you are",
    "cors": "Call Docusign from a web page",
}
"""Every scope that can be consented to, in plain words. Source: Docusign's scope reference and the pages of each API."""

_LAYOUT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }} · Sandbox</title>
<style>
body { margin: 0; background: #eef1f4; color: #1d2733; font: 16px/1.5 system-ui, "Liberation Sans", Arial, sans-serif; }
header { background: #7a4b00; color: #fff; padding: .6rem 1rem; text-align: center; }
main { max-width: 30rem; margin: 3rem auto; padding: 2rem 2.25rem; background: #fff;
  border: 1px solid #d5dbe1; border-radius: 8px; }
h1 { font-size: 1.4rem; line-height: 1.3; margin: 0 0 1rem; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .5rem; }
label { display: block; font-weight: 600; }
input, select { box-sizing: border-box; width: 100%; margin: .3rem 0 1rem; padding: .55rem .7rem; font: inherit;
  border: 1px solid #8895a3; border-radius: 5px; }
button { padding: .55rem 1.4rem; font: inherit; font-weight: 600; border: 1px solid #1f5f8b; border-radius: 5px;
  background: #1f5f8b; color: #fff; cursor: pointer; }
button.plain { background: #fff; color: #1f5f8b; }
a { color: #1f5f8b; }
ul { padding: 0; list-style: none; }
li { padding: .6rem 0; border-top: 1px solid #e4e8ec; overflow-wrap: anywhere; }
small, .quiet { color: #536171; font-size: .875rem; }
p { overflow-wrap: anywhere; }
li small { display: block; margin-bottom: .3rem; font-weight: 400; }
.people button { width: 100%; padding: .45rem .7rem; text-align: left; border-color: #c3ccd5; }
.problem { padding: .5rem .8rem; background: #fdecea; border-left: 4px solid #b3261e; }
</style>
</head>
<body>
<header><strong>Sandbox</strong>: a simulation on this computer, not Docusign</header>
<main>
<h1>{{ title }}</h1>
{% block content %}{% endblock %}
</main>
</body>
</html>
"""

_LOGIN = """{% extends "layout" %}{% block content %}
{% if problem %}<p class="problem" role="alert">{{ problem }}</p>{% endif %}
<form method="post" action="/login">
<input type="hidden" name="continue" value="{{ onward }}">
<label for="login">E-mail address or user id</label>
<input id="login" name="login" autocomplete="off" required autofocus>
<button>Log in</button>
</form>
<p class="quiet">No password is asked for here.{% if people %} Or go on as:{% endif %}</p>
{% if people %}<form method="post" action="/login" class="people">
<input type="hidden" name="continue" value="{{ onward }}">
<ul>{% for person in people %}
<li><button class="plain" name="login" value="{{ person.user_id }}">{{ person.email }}<small>
{{- person.name }} {{ person.user_id }}</small></button></li>
{% endfor %}</ul>
</form>{% endif %}
{% endblock %}"""

_CONSENT = """{% extends "layout" %}{% block content %}
<p><strong>{{ application.name }}</strong> asks for your permission to:</p>
<ul>{% for scope in scopes %}<li>{{ words[scope] }}<small>{{ scope }}</small></li>{% endfor %}</ul>
<form method="post">
<button name="decision" value="accept">Accept</button>
<button name="decision" value="decline" class="plain">Decline</button>
</form>
<p class="quiet">You are logged in as <strong>{{ person.email }}</strong>. <a href="{{ relogin }}">Use another account</a></p>
<p class="quiet">You can take this back at any time under <a href="/me/appconsent">Connected apps</a>.</p>
{% endblock %}"""

_ADMIN_CONSENT = """{% extends "layout" %}{% block content %}
<p><strong>{{ application.name }}</strong> asks for your permission to do this for all users of your organization:</p>
<ul>{% for scope in scopes %}<li>{{ words[scope] }}<small>{{ scope }}</small></li>{% endfor %}</ul>
{% for organization in organizations %}
<p><strong>{{ organization.name }}</strong>: everybody whose address is in
{{ organization.domains | join(", ") or "no claimed domain" }}</p>
{% endfor %}
<form method="post">
<button name="decision" value="accept">Accept</button>
<button name="decision" value="decline" class="plain">Decline</button>
</form>
<p class="quiet">You are logged in as <strong>{{ person.email }}</strong>. <a href="{{ relogin }}">Use another account</a></p>
{% endblock %}"""

_ADMIN_APPS = """{% extends "layout" %}{% block content %}
{% for organization, authorized, available in rows %}
<h2>{{ organization.name }}</h2>
<p>Claimed domains: {{ organization.domains | join(", ") or "none" }}</p>
<ul>{% for application, scopes in authorized %}
<li><strong>{{ application.name }}</strong><small>{{ scopes | sort | join(" ") }}</small>
<form method="post" action="/admin/connected-apps">
<input type="hidden" name="organization" value="{{ organization.name }}">
<input type="hidden" name="client_id" value="{{ application.client_id }}">
<button class="plain" name="do" value="revoke">Revoke</button></form></li>
{% else %}<li>No application is authorized for all users.</li>{% endfor %}</ul>
{% if available %}<form method="post" action="/admin/connected-apps">
<input type="hidden" name="organization" value="{{ organization.name }}">
<label>Application <select name="client_id">
{% for application in available %}<option value="{{ application.client_id }}">
{{- application.name }} ({{ application.client_id }})</option>{% endfor %}</select></label>
<label>Scopes, in space delimited format <input name="scopes" autocomplete="off" required></label>
<button name="do" value="add">Authorize Application</button>
</form>{% endif %}
{% endfor %}
<p class="quiet">You are logged in as <strong>{{ person.email }}</strong>.
<a href="/admin/connected-apps?prompt=login">Use another account</a></p>
{% endblock %}"""

_CONNECTED_APPS = """{% extends "layout" %}{% block content %}
<p>These applications may act for <strong>{{ person.email }}</strong>:</p>
<ul>{% for application, scopes in grants %}
<li><strong>{{ application.name }}</strong><small>{{ scopes | sort | join(" ") }}</small>
<form method="post" action="/me/appconsent">
<button class="plain" name="client_id" value="{{ application.client_id }}">Revoke</button></form></li>
{% else %}<li>None.</li>{% endfor %}</ul>
<p class="quiet"><a href="/me/appconsent?prompt=login">Use another account</a></p>
{% endblock %}"""

_TEXT = """{% extends "layout" %}{% block content %}
{% for paragraph in paragraphs %}<p>{{ paragraph }}</p>{% endfor %}
{% endblock %}"""

_TEMPLATES = Environment(
    loader=DictLoader(
        {
            "layout": _LAYOUT,
            "login": _LOGIN,
            "consent": _CONSENT,
            "connected_apps": _CONNECTED_APPS,
            "admin_consent": _ADMIN_CONSENT,
            "admin_apps": _ADMIN_APPS,
            "text": _TEXT,
        }
    ),
    autoescape=True,
    undefined=StrictUndefined,
)
_HEADERS = {"Cache-Control": "no-store", "X-Frame-Options": "SAMEORIGIN", "X-Content-Type-Options": "nosniff"}


def page(template: str, status: int = 200, **values: Any) -> Response:  # noqa: ANN401  # whatever the template names
    """Render one of the pages by its name; every page needs a `title`."""
    html = _TEMPLATES.get_template(template).render(words=SCOPES, **values)
    return Response(html, status, _HEADERS, mimetype="text/html")


def text(title: str, *paragraphs: str, status: int = 200) -> Response:
    """Render a page of nothing but text."""
    return page("text", status, title=title, paragraphs=paragraphs)


def thanks() -> str:
    """The thank-you page that ships with the program, as the page of an application without a name of its own."""
    shipped = Composer(
        directory=None,
        application="Sandbox",
        sender="sandbox@example.com",
        reply_to="",
        consent_url="http://127.0.0.1/oauth/auth",
        admin_consent_url="http://127.0.0.1/oauth/auth",
        scopes=(),
        account_host="127.0.0.1",
    )
    return dict(shipped.pages())["thanks.html"]


def known_scopes(scope: str) -> frozenset[str]:
    """Return the scopes that a consent link asks for. Unknown ones are dropped without a word, as Docusign does.

    So is what follows a literal plus (`%2B`), which Docusign does not take for a space: only `signature` is granted then.
    """
    return frozenset(part.partition("+")[0] for part in scope.split()) & SCOPES.keys()


def back(redirect_uri: str, request: Request, **answer: str) -> Response:
    """Send the browser back with the answer and the `state`, in the query or (`response_type=token`) in the fragment."""
    answer |= {"state": request.args["state"]} if "state" in request.args else {}
    mark = "#" if request.args["response_type"] == "token" else "&" if "?" in redirect_uri else "?"
    return redirect(f"{redirect_uri}{mark}{urlencode(answer)}", 302)
