"""What an organization's administrator sees: the consent screen for all users, and Connected Apps in Docusign Admin."""

from collections.abc import Mapping, Sequence

from werkzeug import Request, Response
from werkzeug.exceptions import BadRequest
from werkzeug.utils import redirect

from campaign.sandbox.grant import Application, Person
from campaign.sandbox.organizations import Organization, Organizations
from campaign.sandbox.pages import known_scopes, page, text

CONNECTED_APPS = "/admin/connected-apps"


def no_administrator() -> Response:
    """Render what everybody else gets to read; the title and its first words are Docusign's."""
    title = "You are not an organization admin"
    return text(
        title, "Please contact your DocuSign Administrator: only an organization admin can consent for others.", status=403
    )


def wants_consent_for_all(request: Request) -> bool:
    """Tell whether a consent link is meant for an administrator."""
    return "admin_consent_scope" in request.args


def consent_for_all(request: Request, application: Application, person: Person, organizations: Organizations) -> Response | None:
    """Ask an administrator, and record the answer for each organization of this one; None where all have consented.

    The link needs `scope=openid`. Unknown scopes are dropped without a word.
    """
    administered = organizations.of(person.user_id)
    scopes = known_scopes(request.args["admin_consent_scope"])
    if not administered:
        return no_administrator()
    if "openid" not in request.args["scope"].split() or not scopes:
        return text("Something is wrong with this link", "It needs scope=openid and a known admin_consent_scope.", status=400)
    if request.form.get("decision") == "accept":
        for organization in administered:
            organizations.consent(organization.name, application.client_id, scopes)
    if all(scopes <= organizations.consented(one.name, application.client_id) for one in administered):
        return None
    return page(
        "admin_consent",
        title=f"Allow {application.name} for your organization?",
        application=application,
        person=person,
        scopes=sorted(scopes),
        organizations=administered,
        relogin=f"{request.full_path}&prompt=login",
    )


def connected_apps(
    request: Request, person: Person, organizations: Organizations, applications: Mapping[str, Application]
) -> Response:
    """Show which applications are authorized for all users of an organization; authorize one more, or revoke one."""
    administered = organizations.of(person.user_id)
    if not administered:
        return no_administrator()
    if request.method == "POST":
        _change(request, administered, organizations)
        return redirect(CONNECTED_APPS, 303)
    rows = [
        (
            organization,
            [
                (one, granted)
                for one in applications.values()
                if (granted := organizations.consented(organization.name, one.client_id))
            ],
            [applications[client_id.lower()] for client_id in organization.applications],
        )
        for organization in administered
    ]
    return page("admin_apps", title="Connected Apps", person=person, rows=rows)


def _change(request: Request, administered: Sequence[Organization], organizations: Organizations) -> None:
    """Do what the form says, within the organizations of this administrator. Raises BadRequest for any other."""
    name, client_id = request.form["organization"], request.form["client_id"]
    organization = next((one for one in administered if one.name == name), None)
    if organization is None:
        raise BadRequest
    if request.form["do"] == "revoke":
        organizations.revoke(name, client_id)
    elif client_id in organization.applications and (scopes := known_scopes(request.form["scopes"])):
        organizations.consent(name, client_id, scopes)
    else:
        raise BadRequest
