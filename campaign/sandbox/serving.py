"""Serves the sandbox for a configuration, in the foreground, until it is told to stop."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from campaign.config import Config
from campaign.docusign import load_key
from campaign.files import replaced
from campaign.model import User
from campaign.pages import pages
from campaign.roster import read_roster
from campaign.sandbox import Sandbox
from campaign.sandbox.administration import CONNECTED_APPS
from campaign.sandbox.organizing import organize
from campaign.stopping import Stop


def serve(  # noqa: PLR0913  # each is an option of the command
    config: Config, *, port: int, smtp_port: int, roster: Path | None, stop: Stop, say: Callable[[str], None]
) -> None:
    """Serve account server and mail catcher until `stop` is set.

    Everybody on the roster has an account and nobody has consented but the canaries. A private key that is missing is made.
    Raises UsageError where a port is taken, ConfigError and RosterError as a run does.
    """
    key_file = config.docusign.private_key_file
    if not key_file.exists():
        write_key(key_file)
        say(f"made {key_file}: a key for the sandbox only")
    users = read_roster(config, roster).users
    mails = config.folder / "sandbox-mails"
    world = Sandbox(
        people_of(config, users),
        client_id=config.docusign.client_id,
        application_name=config.mail.sender_name,
        public_keys=[load_key(key_file).public_key()],
        redirect_uris=[config.docusign.redirect_uri],
        folder=mails,
        port=port,
        smtp_port=smtp_port,
    )
    world.accounts.site = _site(config)
    with world:
        consent_canaries(world, config)
        organized = organize(world.accounts, config, users)
        say(f"account server  {world.accounts.url}   ({len(users)} people; revoke at {world.accounts.url}/me/appconsent)")
        say(f"pages           {world.accounts.url}/information.html   (as campaign pages writes them)")
        say(f"mail catcher    127.0.0.1:{world.mail.port}, which keeps mails in {mails}")
        for organization, administrator in organized:
            say(f"organization    {organization.name}: {', '.join(organization.domains)}, administered by {administrator}")
        if organized and not config.customers.file:
            say(f"                consents for all of it at {world.accounts.url}{CONNECTED_APPS}")
        say("try: campaign plan    stop with Ctrl-C")
        stop.wait()


def _site(config: Config) -> dict[str, str]:
    """The campaign's static pages; the thank-you page also where the configured redirect URI leads."""
    site = {f"/{name}": page for name, page in pages(config).items()}
    return {**site, urlsplit(config.docusign.redirect_uri).path: site["/thanks.html"], "/thanks": site["/thanks.html"]}


def people_of(config: Config, users: tuple[User, ...]) -> Iterator[tuple[str, str, str]]:
    """The canaries and everybody on the roster who has an open account, as (user id, e-mail, name)."""
    yield from ((canary, config.mail.sender_address, "A canary") for canary in config.docusign.canary)
    yield from ((user.user_id, user.email, user.name) for user in users if not user.closed)


def consent_canaries(world: Sandbox, config: Config) -> None:
    """Let the canaries have consented, as the operator does first, and administer the account."""
    for canary in config.docusign.canary:
        world.accounts.consent(canary, config.docusign.client_id, config.docusign.scopes)
        world.accounts.directory.administrators.add(canary)


def write_key(path: Path) -> None:
    """Make a private key as Docusign's pages do: RSA, PKCS#1, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    with replaced(path) as draft:
        draft.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
