"""campaign.toml and the environment, as one frozen Config."""

from campaign.config.reading import load
from campaign.config.schema import Config, Docusign, Guards, Mail, Policy
from campaign.config.secret import Secret

__all__ = ["Config", "Docusign", "Guards", "Mail", "Policy", "Secret", "load"]
