"""Docusign's scopes, by the product that they open.

Source: developers.docusign.com/platform/auth/reference/scopes, and each API's own page on authentication.
"""

BY_PRODUCT = {
    "eSignature": "signature impersonation extended openid cors",
    "Click": "click.manage click.send",
    "Rooms": "dtr.rooms.read dtr.rooms.write dtr.documents.read dtr.documents.write dtr.profile.read dtr.profile.write "
    "dtr.company.read dtr.company.write room_forms",
    "CLM": "spring_read spring_write springcm_read content",
    "Admin": "organization_read group_read permission_read user_read user_write account_read account_write domain_read "
    "identity_provider_read user_data_redact asset_group_account_read asset_group_account_clone_write "
    "asset_group_account_clone_read organization_sub_account_read organization_sub_account_write "
    "connect_org_config_read_api connect_org_config_write_api connect_org_oauth_read_api connect_org_oauth_write_api "
    "connect_org_hmac_read_api connect_org_hmac_write_api",
    "Web Forms": "webforms_read webforms_instance_read webforms_instance_write",
    "Notary": "notary_read notary_write",
    "Workflow Builder": "aow_manage",
    "Agreement Manager": "adm_store_unified_repo_read adm_store_unified_repo_write document_uploader_read "
    "document_uploader_write public_dms_document_read search_read models_read",
    "Trust Records": "trust_records_read",
}

KNOWN = frozenset(scope for scopes in BY_PRODUCT.values() for scope in scopes.split())
