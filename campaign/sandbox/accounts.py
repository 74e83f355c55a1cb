"""A small Docusign account server on loopback: the JWT grant (RFC 7523), consent pages, revocation, and faults on request."""

import secrets
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self
from urllib.parse import urlencode
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug import Request, Response
from werkzeug.exceptions import BadRequest, HTTPException, NotFound, abort
from werkzeug.http import http_date
from werkzeug.routing import Map, Rule
from werkzeug.utils import redirect

from campaign.model import address_key
from campaign.sandbox import administration
from campaign.sandbox.directory import Directory
from campaign.sandbox.grant import (
    DROPPED,
    HOSTS,
    TOKEN_SECONDS,
    Application,
    CannedAnswer,
    Faults,
    Grants,
    Person,
    TokenRequest,
    json_answer,
    subject_of,
)
from campaign.sandbox.loopback import PlainResponse, Server, listener
from campaign.sandbox.organizations import Organization, Organizations
from campaign.sandbox.pages import back, known_scopes, page, text, thanks

__all__ = ["DROPPED", "AccountServer", "Application", "CannedAnswer", "Organization", "Person", "TokenRequest", "json_answer"]

CHOICES = 10  # people that the log-in page offers by name
COOKIE = "sandbox_user"


class AccountServer:
    """The account server; a context manager that serves while entered. Every method may be called from any thread.

    `audience` names the environment that is played; `clock` gives the seconds since 1970 by which all is judged.
    Entering raises UsageError where the port cannot be had.
    """

    def __init__(
        self,
        *,
        audience: str = HOSTS[0],
        port: int = 0,
        clock: Callable[[], float] = time.time,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.faults = Faults()
        self.requests: list[TokenRequest] = []
        self.url = ""  # known once entered
        self.site: dict[str, str] = {}  # static pages by their paths, beside those of Docusign
        self._port = port
        self._clock = clock
        self._tls = tls
        self._people: dict[str, Person] = {}
        self._applications: dict[str, Application] = {}
        self._consents: dict[tuple[str, str], frozenset[str]] = {}  # by user id and client id
        self._consents_lock = threading.Lock()
        self._organizations = Organizations()
        self._grants = Grants(audience, clock, self._people, self._applications, self.consented, secrets.token_bytes(32))
        self.directory = Directory(self._people, self._organizations, self._grants, self.faults)
        self._leaving = threading.Event()
        self._routes = self._mapped()

    def _mapped(self) -> Map:
        rules = [
            Rule("/oauth/token", endpoint=self._token, methods=["POST"]),
            Rule("/oauth/userinfo", endpoint=self._userinfo, methods=["GET"]),
            Rule("/restapi/v2.1/accounts/<account_id>/users", endpoint=self._users_of_account, methods=["GET"]),
            Rule("/Management/v2/organizations/<organization_id>/users", endpoint=self._users_of_organization, methods=["GET"]),
            Rule("/oauth/auth", endpoint=self._authorize, methods=["GET", "POST"]),
            Rule("/login", endpoint=self._log_in, methods=["POST"]),
            Rule("/me/appconsent", endpoint=self._connected_apps, methods=["GET", "POST"]),
            Rule(administration.CONNECTED_APPS, endpoint=self._administer, methods=["GET", "POST"]),
            Rule("/", endpoint=self._connected_apps, methods=["GET"]),
            Rule("/<path:name>", endpoint=self._static, methods=["GET"]),
        ]
        return Map(rules, strict_slashes=False, merge_slashes=False)

    def __enter__(self) -> Self:
        self._leaving.clear()
        with listener(self._port) as bound:  # werkzeug, left to bind by itself, prints and exits where the port is taken
            self._server = Server(bound, self._respond, self._tls)
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self._server.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="account-server")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leaving.set()
        self._server.shutdown()
        self._thread.join()

    # What is known

    def add_application(self, application: Application) -> None:
        """Register an integration key, or replace it."""
        self._applications[application.client_id.lower()] = application

    def add_person(self, person: Person) -> None:
        """Add a user, or replace the one with the same user id."""
        self._people[person.user_id.lower()] = person

    def add_organization(self, organization: Organization) -> None:
        """Add an organization, or replace it. Raises ValueError for a domain that another one has claimed."""
        self._organizations.add(organization)

    def consent(self, user_id: str, client_id: str, scopes: Iterable[str]) -> None:
        """Add to what a user has consented to, as if on the consent page."""
        pair = _pair(user_id, client_id)
        with self._consents_lock:
            self._consents[pair] = self._consents.get(pair, frozenset()) | frozenset(scopes)

    def revoke(self, user_id: str, client_id: str) -> None:
        """Take a user's own consent back; that of an organization stays. Tokens already issued live on until they expire."""
        with self._consents_lock:
            self._consents.pop(_pair(user_id, client_id), None)

    def consented(self, user_id: str, client_id: str) -> frozenset[str]:
        """Return the scopes that this application may use for this user: the one place that knows."""
        person = self._people.get(user_id.lower())
        own = self._consents.get(_pair(user_id, client_id), frozenset())
        return own | (self._organizations.consented_for(person, client_id) if person else frozenset())

    # The token endpoint

    def _token(self, request: Request) -> Response:
        user_id = subject_of(request.form.get("assertion", ""))
        self._leaving.wait(self.faults.latency)
        answer = self.faults.take(user_id.lower()) or self._grants.answer(request.form)
        body = b"" if answer.status < 300 else answer.body  # noqa: PLR2004  # a 2xx may hold a token
        self.requests.append(TokenRequest(self._clock(), user_id, answer.status, body))
        if answer is DROPPED:
            raise ConnectionAbortedError("a fault that was asked for")
        response = _response(answer)
        response.headers.setdefault("X-DocuSign-TraceToken", str(uuid.uuid4()))
        return response

    def _userinfo(self, request: Request) -> Response:
        person = self._grants.bearer_of(request.authorization.token if request.authorization else None)
        if person is None:
            return _response(json_answer(401, error="internal_server_error", reference_id=str(uuid.uuid4())))
        return _response(json_answer(200, **self.directory.about(person, self.url)))

    def _users_of_account(self, request: Request, account_id: str) -> Response:
        return _response(self.directory.of_account(request, account_id))

    def _users_of_organization(self, request: Request, organization_id: str) -> Response:
        return _response(self.directory.of_organization(request, organization_id))

    # The pages

    def _authorize(self, request: Request) -> Response:
        application, redirect_uri, scopes = self._asked(request)
        person = self._logged_in(request)
        if request.form.get("decision") == "decline":
            return back(redirect_uri, request, error="access_denied")
        if administration.wants_consent_for_all(request):
            asked = administration.consent_for_all(request, application, person, self._organizations)
            return asked or back(redirect_uri, request, **self._proof(request, person))
        if request.form.get("decision") == "accept":
            self.consent(person.user_id, application.client_id, scopes)
        if scopes <= self.consented(person.user_id, application.client_id):
            return back(redirect_uri, request, **self._proof(request, person))
        title, relogin = f"Allow {application.name}?", f"{request.full_path}&prompt=login"
        return page("consent", title=title, application=application, person=person, scopes=sorted(scopes), relogin=relogin)

    def _proof(self, request: Request, person: Person) -> dict[str, str]:
        """Return what an application gets for a consent: a code, which nobody here can exchange, or a token."""
        if request.args["response_type"] == "code":
            return {"code": secrets.token_urlsafe(48)}
        token = self._grants.minted(person.user_id, TOKEN_SECONDS)
        return {"access_token": token, "token_type": "Bearer", "expires_in": str(TOKEN_SECONDS)}

    def _asked(self, request: Request) -> tuple[Application, str, frozenset[str]]:
        """Return who asks, where the answer goes, and for which scopes; unless the question is wrong, which ends here."""
        application = self._applications.get(request.args.get("client_id", "").lower())
        redirect_uri = request.args.get("redirect_uri", "")
        scopes = known_scopes(request.args.get("scope", ""))
        if application is None:
            abort(text("Something is wrong with this link", "No application has this client_id.", status=400))
        if redirect_uri not in application.redirect_uris:
            title = "The redirect URI is not registered properly with Docusign"
            abort(text(title, "None that is registered equals this one to the letter:", redirect_uri, status=400))
        if request.args.get("response_type") not in {"code", "token"} or not scopes:
            abort(text("Something is wrong with this link", "It needs response_type=code and a known scope.", status=400))
        return application, redirect_uri, scopes

    def _logged_in(self, request: Request) -> Person:
        """Return who is logged in; otherwise, or where `prompt=login` asks for it, the log-in page ends the request."""
        person = self._people.get(request.cookies.get(COOKIE, ""))
        if person is None or not person.active or request.args.get("prompt") == "login":
            onward = [(name, value) for name, value in request.args.items(multi=True) if name != "prompt"]
            abort(_login_page(f"{request.path}?{urlencode(onward)}", self._active()))
        return person

    def _active(self) -> list[Person]:
        return [person for person in tuple(self._people.values()) if person.active]

    def _log_in(self, request: Request) -> Response:
        login, onward = request.form["login"].strip(), request.form["continue"]
        if not onward.startswith(("/oauth/auth?", "/me/appconsent?", f"{administration.CONNECTED_APPS}?", "/?")):
            raise BadRequest
        found = [
            person
            for person in self._active()
            if person.user_id.lower() == login.lower() or address_key(person.email) == address_key(login)
        ]
        if len(found) != 1:
            problem = "Several users have this address: choose one." if found else "There is no such user."
            return _login_page(onward, found or self._active(), problem)
        response = redirect(onward, 303)
        response.set_cookie(COOKIE, found[0].user_id.lower(), httponly=True, samesite="Lax")
        return response

    def _connected_apps(self, request: Request) -> Response:
        person = self._logged_in(request)
        if request.method == "POST":
            self.revoke(person.user_id, request.form["client_id"])
            return redirect("/me/appconsent", 303)
        applications = tuple(self._applications.values())
        grants = [(application, self.consented(person.user_id, application.client_id)) for application in applications]
        return page("connected_apps", title="Connected apps", person=person, grants=[grant for grant in grants if grant[1]])

    def _administer(self, request: Request) -> Response:
        return administration.connected_apps(request, self._logged_in(request), self._organizations, self._applications)

    def _static(self, _: Request, name: str) -> Response:
        """A page as a plain web server shows it, which looks at no query."""
        if name == "thanks" and "/thanks" not in self.site:
            self.site["/thanks"] = thanks()
        if f"/{name}" not in self.site:
            raise NotFound
        return Response(self.site[f"/{name}"], mimetype="text/html")

    def _respond(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        try:
            request.get_data()  # all of it: the next request of this connection begins behind it
            view, parts = self._routes.bind_to_environ(environ).match()
            response = view(request, **parts)
        except HTTPException as error:
            response = error.response or text(error.name, error.description or "", status=error.code or 500)
        response.headers.setdefault("Date", http_date(self._clock()))
        body: Iterable[bytes] = response(environ, start_response)
        return body


def _login_page(onward: str, people: list[Person], problem: str = "") -> Response:
    return page("login", title="Log in", onward=onward, people=people[:CHOICES], problem=problem)


def _pair(user_id: str, client_id: str) -> tuple[str, str]:
    return user_id.lower(), client_id.lower()


def _response(answer: CannedAnswer) -> Response:
    return PlainResponse([answer.body], answer.status, dict(answer.headers))  # bytes alone would set Content-Length anew
