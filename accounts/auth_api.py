"""`/api/auth/`: staff sign in with address and password and get tokens for the owner's API."""

from typing import Any

from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_serializer
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import StaffTokenAuthentication
from accounts.staff_sessions import SignedIn, end_session, refresh_session, sign_in_staff
from core.api_fields import read_fields
from core.clock import now
from core.schema import problems


class _Secret(serializers.CharField):
    """As it was typed: no blanks removed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(trim_whitespace=False, write_only=True, **kwargs)


@extend_schema_serializer(component_name="SignIn")
class SignInInput(serializers.Serializer[Any]):
    email = serializers.CharField(max_length=254)
    password = _Secret(max_length=1_000)
    code = serializers.CharField(
        max_length=40, required=False, allow_blank=True, default="", write_only=True,
        help_text="Of the authenticator app, or a recovery code; where the account has one.",
    )  # fmt: skip


@extend_schema_serializer(component_name="Refresh")
class RefreshInput(serializers.Serializer[Any]):
    refresh = serializers.CharField(max_length=2_000, write_only=True)


@extend_schema_serializer(component_name="Tokens")
class TokensOutput(serializers.Serializer[Any]):
    access = serializers.CharField(help_text="Send it as `Authorization: Bearer ACCESS`.")
    access_expires_at = serializers.DateTimeField()
    refresh = serializers.CharField(help_text="For `POST /api/auth/refresh`; good once.")
    refresh_expires_at = serializers.DateTimeField(help_text="The end of the session: then sign in again.")
    token_type = serializers.ChoiceField(choices=["Bearer"])


class SignedOutOutput(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["signed_out"])


class _Open(APIView):
    """For who has no token yet."""

    authentication_classes = []
    permission_classes = []

    def get_authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="farebox"'


class SignInView(_Open):
    """Staff only. Failures are limited by address and by account, together with those of the portal's sign-in."""

    @extend_schema(
        operation_id="sign_in",
        summary="Sign in as staff",
        request=SignInInput,
        responses={200: OpenApiResponse(TokensOutput, "A session."), **problems(400, 401, 415, 429, 503)},
    )
    def post(self, request: Request) -> Response:
        fields = read_fields(SignInInput, request)
        return Response(_shown(sign_in_staff(request=request._request, at=now(), **fields)))


class RefreshView(_Open):
    """A refresh token is good once: used a second time, it ends the session."""

    @extend_schema(
        operation_id="refresh_session",
        summary="New tokens for a session",
        request=RefreshInput,
        responses={200: OpenApiResponse(TokensOutput, "The same session."), **problems(400, 401, 415, 503)},
    )
    def post(self, request: Request) -> Response:
        fields = read_fields(RefreshInput, request)
        return Response(_shown(refresh_session(token=fields["refresh"], at=now())))


class SignOutView(APIView):
    """Ends the session of the access token that the request carries."""

    authentication_classes = [StaffTokenAuthentication]

    @extend_schema(
        operation_id="sign_out",
        summary="End a session",
        request=None,
        responses={
            200: OpenApiResponse(SignedOutOutput, "Its tokens are refused now."),
            **problems(401, 503),
        },
    )
    def post(self, request: Request) -> Response:
        end_session(session=request.auth, at=now())  # type: ignore[arg-type]  # what StaffTokenAuthentication gave
        return Response({"status": "signed_out"})


def _shown(signed: SignedIn) -> dict[str, str]:
    return {
        "access": signed.access,
        "access_expires_at": signed.access_until.isoformat(),
        "refresh": signed.refresh,
        "refresh_expires_at": signed.session.expires_at.isoformat(),
        "token_type": "Bearer",
    }
