"""What stops a run, and the exit code that a script sees."""

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes; scripts depend on them. Where several apply the worst wins: 6, then 5, then 4, then 3."""

    DONE = 0  # also "nothing was due"
    BUG = 1  # a traceback without local variables
    USAGE = 2  # usage, configuration, roster or template is wrong; nothing was attempted
    ATTENTION = 3  # done, and something new needs a person
    STOPPED = 4  # a guard, a missing approval or the STOP file
    REFUSED = 5  # Docusign or the relay refused us or could not be reached
    LEDGER = 6  # the ledger or the disk cannot be used, or is not the one this campaign last wrote
    BUSY = 75  # another run holds the campaign
    SIGINT = 130
    SIGTERM = 143


class CampaignError(Exception):
    """Stops a run. `str(error)` says what and where, `advice` the next step; neither ever holds a secret."""

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class ConfigError(CampaignError):
    """campaign.toml, the environment or a file that they name cannot be used."""


class RosterError(CampaignError):
    """The roster as a whole cannot be trusted; single bad rows are `Reject`s instead."""


class TemplateError(CampaignError):
    """A template is missing, broken or deceptive."""

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message, advice or "correct the template, then look at a message: campaign preview USER")


class UsageError(CampaignError):
    """The command line asks for something that cannot be done."""


class GuardTripped(CampaignError):
    """A guard, a missing approval or the STOP file keeps this night from mailing."""

    exit_code = ExitCode.STOPPED


class DocusignRefused(CampaignError):
    """Docusign refuses the app itself: it would refuse every user alike."""

    exit_code = ExitCode.REFUSED


class DocusignUnreachable(CampaignError):
    """Docusign gave no usable answer, again and again."""

    exit_code = ExitCode.REFUSED


class RelayRefused(CampaignError):
    """The relay refuses us, not a recipient. The message in hand was definitely not sent."""

    exit_code = ExitCode.REFUSED


class RelayBusy(RelayRefused):
    """The relay wants us to send more slowly. The same message may be tried again after a pause."""


class DomainRefused(RelayRefused):
    """The provider behind one recipient domain refuses us; other domains may still be mailed."""


class RelayUnreachable(CampaignError):
    """The relay cannot be reached, or not safely."""

    exit_code = ExitCode.REFUSED


class LedgerError(CampaignError):
    """The ledger or its disk cannot be used, or it is not the one this campaign last wrote."""

    exit_code = ExitCode.LEDGER


class Busy(CampaignError):
    """Another run holds the campaign."""

    exit_code = ExitCode.BUSY


class Interrupted(CampaignError):
    """SIGINT or SIGTERM; in a run the message in flight was settled first."""

    def __init__(self, exit_code: ExitCode, *, settled: bool = True) -> None:
        of_a_run = ("; the message in flight was settled", "the next run goes on from here")
        message, advice = of_a_run if settled else ("", "what was not finished is as it was")
        super().__init__(f"stopped by {exit_code.name}{message}", advice)
        self.exit_code = exit_code
