"""Addresses of sign-up, team and organizations; part of dashboard.urls, whose namespace they share."""

from django.urls import path

from dashboard.views import mailbox, organizations, signup, team

urlpatterns = [
    path("welcome/", signup.onboarding, name="onboarding"),
    path("organizations/new/", organizations.organization_create, name="organization-create"),
    path("organizations/switch/", organizations.organization_switch, name="organization-switch"),
    path("team/", team.team, name="team"),
    path("team/ownership/", team.ownership_transfer, name="ownership-transfer"),
    path("team/invitations/", team.invitation_create, name="invitation-create"),
    path("team/invitations/<str:public_id>/revoke/", team.invitation_revoke, name="invitation-revoke"),
    path("team/<str:public_id>/role/", team.member_role, name="member-role"),
    path("team/<str:public_id>/remove/", team.member_remove, name="member-remove"),
    path("invitations/<str:token>/", team.invitation_accept, name="invitation-accept"),
    path("mailbox/", mailbox.mailbox, name="mailbox"),
    path("mailbox/<int:number>/", mailbox.mailbox_message, name="mailbox-message"),
]
