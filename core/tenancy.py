"""Tenancy in one place: rows of a tenant are reached through `for_organization`, and a stranger's look missing."""

from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.db import models

from core.errors import NotFound

if TYPE_CHECKING:
    from accounts.models import Organization

ModelT = TypeVar("ModelT", bound=models.Model)


class TenantQuerySet(models.QuerySet[ModelT]):
    """Base of every queryset over rows that belong to an organization."""

    def for_organization(self, organization: "Organization") -> Self:
        """Only the rows of this organization."""
        return self.filter(organization_id=organization.pk)

    def get_or_404(self, **criteria: Any) -> ModelT:
        """The one row, or NotFound: a foreign id answers like a missing one."""
        row = self.filter(**criteria).first()
        if row is None:
            raise NotFound
        return row
