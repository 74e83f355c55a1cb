"""A batch program that runs a Docusign consent campaign."""
