"""Runs inside Label Studio's own interpreter: brings the database up to date and makes the accounts.

Called as `VENV/bin/python server_accounts.py` with `{"accounts": [{"name", "email", "password", "token"}]}` on
standard input, so that no secret is ever in an argument list, an environment or a log. Each account gets an
organisation of its own: the Community Edition shows every project to everyone in an organisation, so this is what
keeps raters from seeing each other's work. Run again with the same accounts it changes nothing.
"""

from __future__ import annotations

import importlib
import json
import os
import sys


def main() -> None:
    """Migrate, then make the accounts that are missing. Django's modules are found by name, at run time only."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "label_studio.core.settings.label_studio")
    server = importlib.import_module("label_studio.server")
    server._setup_env()
    server._apply_database_migrations()
    user_model = importlib.import_module("users.models").User
    organization_model = importlib.import_module("organizations.models").Organization
    token_model = importlib.import_module("rest_framework.authtoken.models").Token
    for account in json.load(sys.stdin)["accounts"]:
        user = user_model.objects.filter(email=account["email"]).first()
        if user is None:
            user = user_model.objects.create_user(email=account["email"], password=account["password"])
            user.username = account["name"]
        if user.active_organization is None:
            user.active_organization = organization_model.create_organization(
                created_by=user, title=account["name"], legacy_api_tokens_enabled=True
            )
        user.save()
        token_model.objects.filter(user=user).delete()
        token_model.objects.create(user=user, key=account["token"])


if __name__ == "__main__":
    main()
