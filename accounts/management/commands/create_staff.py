"""The first staff login of an installation: `manage.py create_staff you@example.com` asks for the password."""

from getpass import getpass
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.validators import validate_email

from accounts.services import create_staff
from core.errors import PortalError


class Command(BaseCommand):
    help = "Make a staff account with a confirmed address; it sees the staff pages and the admin."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--name", default="")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            validate_email(options["email"])
            password = getpass("Password: ")
            validate_password(password)
            staff = create_staff(email=options["email"], password=password, name=options["name"])
        except (ValidationError, PortalError) as refused:
            raise CommandError(str(getattr(refused, "messages", [refused])[0])) from refused
        self.stdout.write(f"{staff.email} is staff.")
