"""The protocol with Docusign: the consent links, the assertion, what an answer means, and the prober."""

from campaign.docusign.answers import Answer, interpret
from campaign.docusign.assertion import Signer, load_key
from campaign.docusign.links import admin_consent_url, consent_url
from campaign.docusign.prober import Prober

__all__ = ["Answer", "Prober", "Signer", "admin_consent_url", "consent_url", "interpret", "load_key"]
